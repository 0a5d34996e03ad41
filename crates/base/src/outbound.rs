//! Where this service may connect to: the addresses that no vendor, endpoint or sink has.
//!
//! In: the host of a configured URL, and later each address that its name resolves to. Out: whether it may be connected
//! to. Somebody who can change a name or a URL must not turn this service into a way to the metadata of a cloud, which
//! gives out the machine's credentials to whoever asks. Private networks are not among them: sinks are there.
//!
//! A name is judged by what it resolves to when a connection is made, and the connection goes to the judged address;
//! there is no moment in between in which it could change.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Metadata services outside of the link-local range: Azure, Oracle, Alibaba.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(100, 100, 100, 200)];
/// The same of AWS (with its time and its resolver beside it), Google Cloud and Scaleway.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// What is wrong with an address as a destination, as in "is a multicast address"; `None`: nothing.
#[must_use]
pub fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = address.octets();
    Some(match first {
        0 => "is an address of no host",
        169 if address.is_link_local() => "is a link-local address, as the metadata services of clouds have",
        224..=239 => "is a multicast address",
        240.. => "is a reserved address",
        _ if METADATA_V4.contains(&address) => "is the address of a cloud's metadata service",
        _ => return None,
    })
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return None;
    }
    match address.segments() {
        _ if address.is_unspecified() => Some("is an address of no host"),
        _ if address.is_multicast() => Some("is a multicast address"),
        _ if address.is_unicast_link_local() => Some("is a link-local address"),
        _ if METADATA_V6.contains(&address) => Some("is the address of a cloud's metadata service"),
        // Site-local, which nobody may use any more (RFC 3879).
        [0xfec0..=0xfeff, ..] => Some("is a site-local address"),
        segments => embedded(segments).into_iter().flatten().find_map(refusal_v4),
    }
}

fn is_of_metadata(address: Ipv4Addr) -> bool {
    address.is_link_local() || METADATA_V4.contains(&address)
}

/// The IPv4 addresses that packets to an IPv6 address may end up at, by the ways in which one stands in the other.
fn embedded(segments: [u16; 8]) -> [Option<Ipv4Addr>; 2] {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // Mapped and compatible (RFC 4291), SIIT (RFC 2765), NAT64 (RFC 6052), ISATAP under any prefix (RFC 5214), and 6to4
        // (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low]
        | [0x2002, high, low, ..] => [v4(high, low), None],
        // NAT64 with a prefix of the network's own (RFC 8215), of 96, 64, 56 or 48 bits. Most read as nonsense, so that
        // only a dangerous one counts. The octet behind the first 64 bits is always zero.
        [0x64, 0xff9b, 1, a, b, c, high, low] => {
            let others =
                [v4((b << 8) | (c >> 8), (c << 8) | (high >> 8)), v4((a << 8) | b, c), v4(a, (b << 8) | (c >> 8))];
            [v4(high, low), others.into_iter().flatten().find(|address| is_of_metadata(*address))]
        }
        // Teredo (RFC 4380): its server, and its client with every bit turned.
        [0x2001, 0, server_high, server_low, _, _, high, low] => [v4(server_high, server_low), v4(!high, !low)],
        _ => [None, None],
    }
}

/// Whether an address belongs to a private network, whatever it is written as.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // The last is what providers use behind their own translation (RFC 6598).
            address.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// Resolves names as the system does, without the addresses that are never connected to.
#[derive(Clone, Copy, Debug)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let left = reachable(name.as_str(), lookup(name.as_str()).await?)?;
            Ok(Box::new(left.into_iter()) as Addrs)
        })
    }
}

/// Resolves a host as the system does, without the addresses that are never connected to; for others than the HTTP client.
///
/// # Errors
/// The system's, or [`Refused`] inside of one.
///
/// # Cancel safety
/// Nothing is kept.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let left = reachable(host, lookup(host).await?).map_err(io::Error::other)?;
    Ok(left.into_iter().map(|address| SocketAddr::new(address.ip(), port)).collect())
}

async fn lookup(name: &str) -> io::Result<Vec<SocketAddr>> {
    // No network that tests run in has such a name.
    #[cfg(any(test, feature = "testing"))]
    if name == "metadata.test" {
        return Ok(vec![SocketAddr::from(([169, 254, 169, 254], 0))]);
    }
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// A name leads to nothing that may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host name leads to an address that is never connected to: it {}", self.0)
    }
}

impl std::error::Error for Refused {}

fn reachable(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let stays_here = name.eq_ignore_ascii_case("localhost");
    let judge = |address: IpAddr| match refusal(address) {
        // Plain HTTP is allowed to this name, so it means this machine and nothing else.
        None if stays_here && !address.to_canonical().is_loopback() => Some("is not this machine"),
        refused => refused,
    };
    let (mut left, mut refused) = (Vec::new(), None);
    for address in found {
        match judge(address.ip()) {
            Some(why) => refused = Some(Refused(why)),
            None => left.push(address),
        }
    }
    match refused {
        Some(refused) if left.is_empty() => Err(refused),
        _ => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_an_address_that_is_no_servers_is_let_through() {
        for refused in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            // (C13) The other ways in which IPv4 stands in IPv6.
            "::ffff:0:169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:fffe::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00::",
            "2001:0:a9fe:a9fe::1",
            "2001::5601:5601",
            "2001:db8::5efe:a9fe:a9fe",
            "2001:db8::200:5efe:a9fe:a9fe",
            "fec0::1",
            "feff::1",
            "fe80::1",
            "fd00:ec2::23",
            "fd00:ec2::254",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "240.0.0.1",
        ] {
            assert!(refusal(refused.parse().unwrap()).is_some(), "{refused}");
        }
        for fine in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "fd12::1",
            "1.1.1.1",
            "2606::1",
            "64:ff9b::101:101",
            "64:ff9b:1::a00:1",
            "64:ff9b:1:fffe::a00:1",
            "2001:db8::5efe:101:101",
        ] {
            assert_eq!(refusal(fine.parse().unwrap()), None, "{fine}");
        }
    }

    #[test]
    fn private_networks_are_known_in_every_form() {
        for private in ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "::ffff:10.0.0.1", "fd12::1"] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["127.0.0.1", "::1", "172.32.0.1", "100.128.0.1", "2606::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_name_leads_to_the_addresses_that_may_be_connected_to() {
        let of = |name: &str, addresses: &[&str]| {
            let found = addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            reachable(name, found).map(|left| left.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(of("app.internal", &["10.0.0.1", "169.254.169.254"]).unwrap(), ["10.0.0.1"]);
        assert!(of("app.internal", &["169.254.169.254", "fe80::1"]).unwrap_err().to_string().contains("link-local"));
        assert_eq!(of("LocalHost", &["::1", "10.0.0.1"]).unwrap(), ["::1"]);
        assert!(of("localhost", &["10.0.0.1"]).is_err());
        assert_eq!(of("nobody.invalid", &[]).unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn resolves_what_the_system_resolves() {
        let found: Vec<SocketAddr> = Resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        let found = resolve("localhost", 4222).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|address| address.port() == 4222), "{found:?}");
        let refused = resolve("metadata.test", 4222).await.unwrap_err();
        assert!(refused.get_ref().unwrap().is::<Refused>(), "{refused}");
    }
}
