//! Content codings of answers (RFC 9110 section 8.4): none is asked for, and gzip is unpacked where a server or something in
//! between packs all the same.
//!
//! In: the headers of an answer, and its bytes. Out: the bytes unpacked, never more than a limit: a small packed answer may
//! hold a thousand times its size.

use flate2::read::MultiGzDecoder;
use reqwest::header::{self, HeaderMap};
use std::io::Read as _;
use zeroize::Zeroizing;

/// How an answer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packed {
    /// It is not.
    No,
    /// With gzip.
    Gzip,
}

/// Why an answer could not be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It holds more than the limit.
    TooLarge,
    /// It is not what its coding says.
    Broken,
}

/// How an answer says that it is packed.
///
/// # Errors
/// What continues "the answer", for a coding that is not known here.
pub(crate) fn of(headers: &HeaderMap) -> Result<Packed, &'static str> {
    const UNKNOWN: &str = "is packed in a way that was not asked for";
    let mut packed = Packed::No;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for coding in value.to_str().map_err(|_not_text| UNKNOWN)?.split(',').map(str::trim) {
            let is = |name: &str| coding.eq_ignore_ascii_case(name);
            match packed {
                _ if coding.is_empty() || is("identity") => {}
                Packed::No if is("gzip") || is("x-gzip") => packed = Packed::Gzip,
                _ => return Err(UNKNOWN),
            }
        }
    }
    Ok(packed)
}

/// The bytes of an answer, unpacked. An answer without any bytes stays without.
///
/// # Errors
/// [`Failure`].
pub(crate) fn unpacked(packed: Packed, body: Zeroizing<Vec<u8>>, limit: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if packed == Packed::No || body.is_empty() {
        return Ok(body);
    }
    let mut plain = Zeroizing::new(Vec::new());
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(&body[..]).take(one_more).read_to_end(&mut plain);
    if plain.len() > limit {
        return Err(Failure::TooLarge);
    }
    read.map_err(|_broken| Failure::Broken)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use reqwest::header::HeaderValue;
    use std::io::Write as _;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value))).collect()
    }

    fn gzip(plain: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        Zeroizing::new(encoder.finish().unwrap())
    }

    /// (A7) Codings that change nothing are taken, gzip is unpacked, and no other is guessed at.
    #[test]
    fn identity_and_gzip_are_known() {
        for values in [&[][..], &["identity"], &["Identity", ""], &["identity, identity"]] {
            assert_eq!(of(&headers(values)), Ok(Packed::No), "{values:?}");
        }
        for values in [&["gzip"][..], &["x-gzip"], &["GZIP"], &["identity, gzip"], &["gzip", "identity"]] {
            assert_eq!(of(&headers(values)), Ok(Packed::Gzip), "{values:?}");
        }
        for values in [&["br"][..], &["deflate"], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert!(of(&headers(values)).is_err(), "{values:?}");
        }
    }

    /// (A7) What is unpacked stays within the limit, and what is cut off is not taken for whole.
    #[test]
    fn unpacks_within_the_limit_and_nothing_that_is_broken() {
        let plain = vec![b' '; 100_000];
        let packed = gzip(&plain);
        assert!(packed.len() < 1000);
        let unpack = |body: &[u8], limit| unpacked(Packed::Gzip, Zeroizing::new(body.to_vec()), limit);
        assert_eq!(*unpack(&packed, 100_000).unwrap(), plain);
        assert_eq!(unpack(&packed, 99_999), Err(Failure::TooLarge));
        assert_eq!(unpack(&packed[..packed.len() - 4], 100_000), Err(Failure::Broken));
        assert_eq!(unpack(b"[]", 100_000), Err(Failure::Broken));
        assert_eq!(*unpack(b"", 100_000).unwrap(), b"");
        assert_eq!(*unpack(&[&packed[..], &packed[..]].concat(), 200_000).unwrap(), [&plain[..], &plain[..]].concat());
    }
}
