//! The PROXY protocol header, versions 1 and 2: who a load balancer's caller truly is.
//!
//! In: the first bytes of a socket whose other end is a configured balancer. Out: the caller's address, and not one byte of
//! what follows is taken: TLS begins right behind the header. [`parse`] is pure and is given whatever has come so far.
//!
//! Strict on purpose. The header decides on the address that everything else believes, so what is not exactly one of the
//! forms of the specification (version 1 `TCP4`, `TCP6`, `UNKNOWN`; version 2 `LOCAL`, or `PROXY` with TCP over IPv4, IPv6
//! or unspecified) ends the connection. TLVs are skipped. `LOCAL` and `UNKNOWN` are the balancer's own connections (health
//! checks): they have the socket's address.
//!
//! Not a crate: it is 100 lines of arithmetic, held by the property tests below.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// Longest header of version 1, line end included, by the specification.
const LONGEST_LINE: usize = 107;
/// Longest header of version 2 that is read; addresses take 36 bytes at most, the rest are TLVs. Balancers that add a
/// certificate's facts stay far below.
const LONGEST: usize = 4096;

/// Who is behind the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This caller.
    Caller(SocketAddr),
    /// The balancer itself.
    Balancer,
}

/// Why a header is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is none, or none that is allowed here.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// The socket broke, or was closed within the header.
    #[error("the connection broke within the PROXY header")]
    Broken(#[source] io::Error),
}

/// Takes the header off a socket.
///
/// # Cancel safety
/// When dropped, part of the header is lost; the socket must be closed then.
pub(super) async fn read(tcp: &mut TcpStream) -> Result<Source, Error> {
    let mut header = Vec::new();
    loop {
        let begun = header.len();
        let mut ahead = [0; 256];
        let peeked = tcp.peek(&mut ahead).await.map_err(Error::Broken)?;
        if peeked == 0 {
            return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        header.extend(ahead.iter().take(peeked));
        let parsed = parse(&header)?;
        // All that was looked at belongs to the header, or all up to its end.
        let taken = parsed.map_or(peeked, |(_, length)| length.saturating_sub(begun));
        if let Some(place) = ahead.get_mut(..taken) {
            tcp.read_exact(place).await.map_err(Error::Broken)?;
        }
        if let Some((source, _)) = parsed {
            return Ok(source);
        }
    }
}

/// Reads a header from the beginning of `bytes`: who it names, and its length. `None`: it goes on beyond them.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    let starts = |with: &[u8]| bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted);
    if starts(WORD) {
        line(bytes)
    } else if starts(SIGNATURE) {
        binary(bytes)
    } else {
        Err(Error::Malformed)
    }
}

/// Version 1: one line of text.
fn line(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(Error::Malformed) };
    };
    let text = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|line| line.strip_prefix(WORD));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).ok_or(Error::Malformed)?;
    let mut words = text.split(' ');
    let source = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => Source::Balancer,
        Some("TCP4") => Source::Caller(endpoints::<Ipv4Addr>(words)?),
        Some("TCP6") => Source::Caller(endpoints::<Ipv6Addr>(words)?),
        _ => return Err(Error::Malformed),
    };
    Ok(Some((source, end + 1)))
}

/// `source destination sourceport destinationport`; the destination must be sound, and is not used.
fn endpoints<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Result<SocketAddr, Error>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok()).ok_or(Error::Malformed);
    let (source, _destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port).ok_or(Error::Malformed);
    let (source_port, _destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(Error::Malformed);
    }
    Ok(SocketAddr::new(source.into(), source_port))
}

/// A port without sign or leading zeros, as the specification wants it.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().ok() } else { None }
}

/// Version 2: signature, version and command, family, length, addresses, TLVs.
fn binary(bytes: &[u8]) -> Result<Option<(Source, usize)>, Error> {
    let Some((head, rest)) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>) else {
        return Ok(None);
    };
    let [command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = SIGNATURE.len() + head.len() + length;
    if !matches!(command, 0x20 | 0x21) || whole > LONGEST {
        return Err(Error::Malformed);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let source = match (command, family) {
        // LOCAL: the family and what follows are to be ignored.
        (0x20, _) | (0x21, 0x00) => Source::Balancer,
        (0x21, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *body.first_chunk::<12>().ok_or(Error::Malformed)?;
            Source::Caller((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
        }
        (0x21, 0x21) => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(Error::Malformed)?;
            let (_destination, rest) = rest.split_first_chunk::<16>().ok_or(Error::Malformed)?;
            let [high, low, _, _] = *rest.first_chunk::<4>().ok_or(Error::Malformed)?;
            Source::Caller((Ipv6Addr::from(*source), u16::from_be_bytes([high, low])).into())
        }
        // Datagrams and local sockets: nobody reaches this port that way.
        _ => return Err(Error::Malformed),
    };
    Ok(Some((source, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    fn v1(caller: SocketAddr) -> Vec<u8> {
        let (family, there) = if caller.is_ipv4() { ("TCP4", "192.0.2.1") } else { ("TCP6", "2001:db8::1") };
        format!("PROXY {family} {} {there} {} 443\r\n", caller.ip(), caller.port()).into_bytes()
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    fn v2_of(caller: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
        let port = caller.port().to_be_bytes();
        match caller.ip() {
            IpAddr::V4(ip) => v2(0x21, 0x11, &[&ip.octets()[..], &[192, 0, 2, 1], &port, &[1, 187], tlvs].concat()),
            IpAddr::V6(ip) => v2(0x21, 0x21, &[&ip.octets()[..], &[9; 16], &port, &[1, 187], tlvs].concat()),
        }
    }

    #[test]
    fn the_balancer_itself() {
        for header in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            &v2(0x20, 0x00, b""),
            &v2(0x20, 0x11, b"whatever"),
            &v2(0x21, 0x00, b"\x04\x00\x01x"),
        ] {
            assert_eq!(parse(header).unwrap(), Some((Source::Balancer, header.len())), "{header:?}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_header() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE));
        for header in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01",
            b"proxy TCP4 192.0.2.7 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 5000\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443 \r\n",
            b"PROXY TCP4  192.0.2.7 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 192.0.2.07 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 5000 443\r\n",
            b"PROXY TCP6 192.0.2.7 192.0.2.1 5000 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 +5000 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 05000 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 443\r\n",
            b"PROXY UDP4 192.0.2.7 192.0.2.1 5000 443\r\n",
            b"PROXY \xff\r\n",
            long.as_bytes(),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x31, &[0; 216]),
            &v2(0x21, 0x11, &[0; LONGEST]),
        ] {
            assert!(matches!(parse(header), Err(Error::Malformed)), "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn nothing_behind_the_header_is_taken() {
        let caller: SocketAddr = "[2001:db8::7]:5000".parse().unwrap();
        for header in [v1(caller), v2_of(caller, &[]), v2_of(caller, &[4; 700])] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut balancer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut socket, _) = listener.accept().await.unwrap();
            let bytes = [&header[..], b"behind"].concat();
            let write = async {
                let (first, second) = bytes.split_at(header.len() / 2);
                balancer.write_all(first).await.unwrap();
                tokio::task::yield_now().await;
                balancer.write_all(second).await.unwrap();
                drop(balancer);
            };
            let (source, ()) = tokio::join!(read(&mut socket), write);
            assert_eq!(source.unwrap(), Source::Caller(caller));
            let mut behind = Vec::new();
            socket.read_to_end(&mut behind).await.unwrap();
            assert_eq!(behind, b"behind");
        }
    }

    fn callers() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(version in 0..3, mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if version > 0 {
                bytes.splice(0..0, if version == 1 { WORD } else { SIGNATURE }.iter().copied());
            }
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && length <= LONGEST);
            }
        }

        #[test]
        fn a_caller_is_found_whatever_follows(
            caller in callers(),
            tlvs in proptest::collection::vec(any::<u8>(), 0..600),
            behind in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            for header in [v1(caller), v2_of(caller, &tlvs)] {
                let whole = [&header[..], &behind].concat();
                prop_assert_eq!(parse(&whole).unwrap(), Some((Source::Caller(caller), header.len())));
            }
        }

        #[test]
        fn a_part_of_a_header_is_waited_for(caller in callers(), cut: proptest::sample::Index) {
            for header in [v1(caller), v2_of(caller, &[7; 40])] {
                let end = cut.index(header.len());
                prop_assert_eq!(parse(&header[..end]).unwrap(), None);
            }
        }
    }
}
