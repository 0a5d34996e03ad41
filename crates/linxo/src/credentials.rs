//! Credentials that were not good enough: what they are recognised by, and how that is stored.
//!
//! Work that the credentials are not good enough for waits until they change, perhaps over a restart and at another receiver.
//! It is stored together with a [`Lacking`]: which kind of credentials it was lacking, and a [`Fingerprint`] of those that
//! there were. When the fingerprint of the present credentials is another one, the work is tried again.
//!
//! A fingerprint is a keyed hash (HMAC-SHA256, cut to 64 bits) of everything that a token depends on. Its key is kept in the
//! store, so that all receivers of one store make the same fingerprints. Whoever has the store has the key too. The secrets
//! stay unguessable all the same: each fingerprint covers the client's secret or the token, which are long and random, and a
//! user's password only together with them.

use crate::keyed::keyed;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::{fmt, str::FromStr, sync::Arc};
use zeroize::Zeroizing;

/// Bytes of a fingerprint.
const LENGTH: usize = 8;
/// Stored where there was no `[linxo]` section.
const NO_API: &str = "none";
/// Stored behind the fingerprint where no token was given.
const NO_TOKEN: &str = " no token";
/// The first part of every fingerprint, so that none equals a hash that is made for another purpose under the same key.
const PURPOSE: &[u8] = b"linxo credentials";

/// The key that fingerprints are made under: 32 random bytes, the same for all receivers that share a store.
#[derive(Clone)]
pub struct FingerprintKey(Arc<dyn Fn() -> Option<[u8; 32]> + Send + Sync>);

impl FingerprintKey {
    /// Takes the bytes as they are kept in the store.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self::later(move || Some(*bytes))
    }

    /// Asks for the bytes whenever they are needed: a store on a server may be open later than this is made. No work is done, and no
    /// fingerprint is kept, as long as they are not known.
    #[must_use]
    pub fn later(bytes: impl Fn() -> Option<[u8; 32]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// Begins a fingerprint.
    pub(crate) fn parts(&self) -> Parts {
        let key = Zeroizing::new((self.0)().unwrap_or_default());
        let mut parts = Parts(keyed(&*key));
        parts.add(PURPOSE);
        parts
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(***)")
    }
}

/// A fingerprint that is being made, part by part.
#[derive(Clone, Debug)]
pub(crate) struct Parts(Hmac<Sha256>);

impl Parts {
    /// Adds a part with its length, so that `ab`, `c` and `a`, `bc` differ.
    pub(crate) fn add(&mut self, part: &[u8]) {
        // As eight bytes on every machine: receivers of different machines may share a store.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.0.update(&length.to_le_bytes());
        self.0.update(part);
    }

    /// The fingerprint of the parts so far.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let hash = self.0.clone().finalize().into_bytes();
        let mut fingerprint = [0; LENGTH];
        for (to, from) in fingerprint.iter_mut().zip(hash) {
            *to = from;
        }
        Fingerprint(fingerprint)
    }
}

/// What credentials are recognised by: the same for the same credentials, also after a restart; another one, all but
/// certainly, for others. `Display` writes 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; LENGTH]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_quotes_the_text| Unreadable)?;
        bytes.try_into().map(Self).map_err(|_other_length| Unreadable)
    }
}

/// Which credentials were lacking, when work could not go on.
///
/// `Display` and `FromStr` are the form in which it is stored: `none`, a fingerprint, or a fingerprint and ` no token`. Texts
/// that an earlier version stored can be read; their fingerprints were made under another key, so that they differ from all
/// that are made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lacking {
    /// Any: there was no `[linxo]` section.
    Api,
    /// Credentials with which a token is given. No token was given with those of this fingerprint.
    Token(Fingerprint),
    /// Credentials whose token may read the accounts. A token was given with those of this fingerprint, and the API refused it.
    Access(Fingerprint),
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str(NO_API),
            Self::Token(fingerprint) => write!(f, "{fingerprint}{NO_TOKEN}"),
            Self::Access(fingerprint) => fingerprint.fmt(f),
        }
    }
}

impl FromStr for Lacking {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        if text == NO_API {
            return Ok(Self::Api);
        }
        match text.strip_suffix(NO_TOKEN) {
            Some(fingerprint) => fingerprint.parse().map(Self::Token),
            None => text.parse().map(Self::Access),
        }
    }
}

/// A text that is no stored form of a [`Lacking`]; perhaps a newer version wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the stored form of credentials that were lacking")]
pub struct Unreadable;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint(key: u8, parts: &[&str]) -> Fingerprint {
        let mut made = FingerprintKey::new([key; 32]).parts();
        for part in parts {
            made.add(part.as_bytes());
        }
        made.fingerprint()
    }

    #[test]
    fn the_same_under_the_same_key_and_another_one_otherwise() {
        let one = fingerprint(1, &["ab", "c"]);
        assert_eq!(fingerprint(1, &["ab", "c"]), one);
        for other in [fingerprint(2, &["ab", "c"]), fingerprint(1, &["a", "bc"]), fingerprint(1, &["abc"])] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn fingerprints_of_one_store_are_the_same_in_every_version() {
        // Computed once with Python's hmac module, over the lengths as eight bytes, little-endian, and the parts.
        assert_eq!(fingerprint(7, &["https://api.oxlin.io/v2.1", "secret"]).to_string(), "1e0ad4d99f82e4b3");
    }

    #[test]
    fn what_an_earlier_version_stored_can_be_read() {
        let digits = Fingerprint([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        for (text, lacking) in [
            ("none", Lacking::Api),
            ("0123456789abcdef no token", Lacking::Token(digits)),
            ("0123456789abcdef", Lacking::Access(digits)),
        ] {
            assert_eq!(text.parse(), Ok(lacking));
            assert_eq!(lacking.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_stored_form() {
        for text in ["", " no token", "none no token", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef00", "é"]
        {
            assert_eq!(text.parse::<Lacking>(), Err(Unreadable), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", FingerprintKey::new([7; 32])), "FingerprintKey(***)");
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(bytes: [u8; LENGTH]) {
            for lacking in [Lacking::Token(Fingerprint(bytes)), Lacking::Access(Fingerprint(bytes))] {
                prop_assert_eq!(lacking.to_string().parse(), Ok(lacking));
            }
        }
    }
}
