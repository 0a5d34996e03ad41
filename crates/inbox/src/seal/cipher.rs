//! One key, and what it seals and opens: AES-256-GCM with random nonces. Pure but for the random bytes.
//!
//! ```text
//! sealed:  nonce (12) | encrypted | tag (16)
//! ```
//!
//! A nonce comes twice under one key with a chance of 2^-33 after 2^32 values (NIST SP 800-38D, section 8.3). A data key seals
//! what comes of one connection, and a segment's key what fits in 64 MiB, which is far less.

use super::flaw::Flaw;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac, rand,
};
use bytes::Bytes;
use zeroize::Zeroizing;

/// Bytes of a tag.
const TAG: usize = 16;
/// By how much a sealed value is longer than its plain text.
pub(crate) const OVERHEAD: usize = NONCE_LEN + TAG;

/// The random bytes that a key is made of. Wiped when dropped.
pub(crate) type Raw = Zeroizing<[u8; 32]>;

/// New random bytes.
pub(crate) fn random() -> Result<Raw, Flaw> {
    let mut raw = Raw::default();
    rand::fill(raw.as_mut_slice()).map_err(|_unspecified| Flaw::Cipher)?;
    Ok(raw)
}

/// A key that is ready for use. Its parts are wiped by the library when dropped.
pub(crate) struct Cipher {
    sealing: LessSafeKey,
    digesting: hmac::Key,
    name: [u8; 8],
}

impl Cipher {
    /// Of the random bytes one key is derived for each use.
    pub(crate) fn new(raw: &Raw) -> Result<Self, Flaw> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, raw.as_slice());
        let derived = |word: &str| -> Raw {
            let mut derived = Raw::default();
            derived.copy_from_slice(hmac::sign(&root, word.as_bytes()).as_ref());
            derived
        };
        let sealing = UnboundKey::new(&AES_256_GCM, derived("seal").as_slice()).map_err(|_unspecified| Flaw::Cipher)?;
        let mut name = [0; 8];
        name.copy_from_slice(derived("name").get(..8).unwrap_or_default());
        Ok(Self {
            sealing: LessSafeKey::new(sealing),
            digesting: hmac::Key::new(hmac::HMAC_SHA256, derived("digest").as_slice()),
            name,
        })
    }

    /// Tells keys apart, and nothing of the key.
    pub(crate) const fn name(&self) -> [u8; 8] {
        self.name
    }

    /// What is written in place of `plain`, bound to `place`.
    pub(crate) fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, Flaw> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_unspecified| Flaw::Cipher)?;
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, text) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(Flaw::Cipher)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.sealing.seal_in_place_separate_tag(nonce, Aad::from(place), text);
        sealed.extend_from_slice(tag.map_err(|_unspecified| Flaw::Cipher)?.as_ref());
        Ok(sealed)
    }

    /// The plain text of what [`seal`](Self::seal) returned for the same place. It is wiped when its last user drops it.
    pub(crate) fn open(&self, place: &[u8], sealed: Vec<u8>) -> Result<Bytes, Flaw> {
        let mut sealed = Zeroizing::new(sealed);
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(Flaw::Changed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_unspecified| Flaw::Changed)?;
        let opened = self.sealing.open_in_place(nonce, Aad::from(place), text);
        let length = opened.map_err(|_unspecified| Flaw::Changed)?.len();
        Ok(Bytes::from_owner(sealed).slice(NONCE_LEN..NONCE_LEN + length))
    }

    /// A digest that says nothing about the text to who has no key: of a short text, a plain SHA-256 could be guessed.
    pub(crate) fn digest(&self, plain: &[u8]) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.digesting, plain).as_ref());
        digest
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cipher(byte: u8) -> Cipher {
        Cipher::new(&Raw::new([byte; 32])).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_in_its_place_alone(
            plain in prop::collection::vec(any::<u8>(), 0..200),
            flip in any::<prop::sample::Index>(),
        ) {
            let key = cipher(1);
            let sealed = key.seal(b"here", &plain).unwrap();
            prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            prop_assert_eq!(key.open(b"here", sealed.clone()).unwrap(), plain.clone());
            prop_assert!(key.open(b"there", sealed.clone()).is_err());
            prop_assert!(cipher(2).open(b"here", sealed.clone()).is_err());
            let mut changed = sealed.clone();
            let at = flip.index(changed.len());
            changed[at] ^= 1;
            prop_assert!(key.open(b"here", changed).is_err());
            prop_assert!(key.open(b"here", sealed[..at].to_vec()).is_err());
            prop_assert_ne!(key.seal(b"here", &plain).unwrap(), sealed, "each time with another nonce");
        }
    }

    #[test]
    fn digests_and_names_are_those_of_the_key() {
        assert_eq!(cipher(1).digest(b"x"), cipher(1).digest(b"x"));
        assert_ne!(cipher(1).digest(b"x"), cipher(2).digest(b"x"));
        assert_ne!(cipher(1).name(), cipher(2).name());
        assert_eq!(format!("{:?}", cipher(1)), "Cipher");
    }
}
