//! The keys of `inbox.key`: they wrap all other keys and seal nothing else. The newest is the first.

use super::{
    cipher::{Cipher, OVERHEAD, Raw},
    flaw::Flaw,
};
use base::secret::Secret;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

/// Bytes of a wrapped key: the name of the key that wraps it, then the sealed key.
pub(crate) const WRAPPED: usize = 8 + 32 + OVERHEAD;
/// A key, encrypted with one of the key file.
pub(crate) type Wrapped = [u8; WRAPPED];

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Ring(Vec<Cipher>);

/// 32 bytes, as base64 or in hexadecimal; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Raw> {
    let decoded = Zeroizing::new(if text.len() == 64 {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?
    } else {
        BASE64.decode(text.as_bytes()).ok()?
    });
    Some(Raw::new(decoded.as_slice().try_into().ok()?))
}

impl Ring {
    /// Of the configured texts; `None`: there are none.
    pub(crate) fn new(texts: &[Secret]) -> Result<Option<Self>, Flaw> {
        let ciphers = texts.iter().map(|text| Cipher::new(&parse(text.expose()).ok_or(Flaw::OtherKey)?));
        let ciphers: Vec<Cipher> = ciphers.collect::<Result<_, _>>()?;
        Ok((!ciphers.is_empty()).then_some(Self(ciphers)))
    }

    /// Encrypts a key with the newest key of the ring, for one purpose.
    pub(crate) fn wrap(&self, purpose: &[u8], raw: &Raw) -> Result<Wrapped, Flaw> {
        let newest = self.0.first().ok_or(Flaw::NoKey)?;
        let mut wrapped = [0; WRAPPED];
        let (name, sealed) = wrapped.split_at_mut(8);
        name.copy_from_slice(&newest.name());
        sealed.copy_from_slice(&newest.seal(purpose, raw.as_slice())?);
        Ok(wrapped)
    }

    /// The key that was wrapped for this purpose, by whichever key of the ring.
    pub(crate) fn unwrap(&self, purpose: &[u8], wrapped: &[u8]) -> Result<Raw, Flaw> {
        let (name, sealed) = wrapped.split_at_checked(8).ok_or(Flaw::Changed)?;
        let cipher = self.0.iter().find(|cipher| cipher.name() == name).ok_or(Flaw::OtherKey)?;
        let opened = cipher.open(purpose, sealed.to_vec())?;
        let raw: [u8; 32] = opened.as_ref().try_into().map_err(|_length| Flaw::Changed)?;
        Ok(Raw::new(raw))
    }

    /// Whether the key that wraps this one is in the ring.
    pub(crate) fn knows(&self, wrapped: &[u8]) -> bool {
        self.0.iter().any(|cipher| wrapped.starts_with(&cipher.name()))
    }

    /// The names of its keys, with which what they wrap begins. The newest is the first.
    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|cipher| cipher.name().to_vec()).collect()
    }

    /// Whether the newest key wraps this one.
    pub(crate) fn is_newest(&self, wrapped: &[u8]) -> bool {
        self.0.first().is_some_and(|cipher| wrapped.starts_with(&cipher.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes: &[u8]) -> Ring {
        let texts: Vec<Secret> = bytes.iter().map(|byte| Secret::new(BASE64.encode(&[*byte; 32]))).collect();
        Ring::new(&texts).unwrap().unwrap()
    }

    #[test]
    fn a_key_is_32_bytes_in_either_writing() {
        let text = BASE64.encode(&[7; 32]);
        assert_eq!(parse(&text).unwrap(), parse(&"07".repeat(32)).unwrap());
        for bad in ["", "secret", &text[1..], &"07".repeat(31), &"0g".repeat(32), &BASE64.encode(&[7; 33])] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(Ring::new(&[]).unwrap().is_none());
        assert!(Ring::new(&[Secret::new("short".to_owned())]).is_err());
    }

    #[test]
    fn a_wrapped_key_is_opened_by_its_wrapper_for_its_purpose() {
        let raw = Raw::new([9; 32]);
        let old = ring(&[1]).wrap(b"a", &raw).unwrap();
        let both = ring(&[2, 1]);
        assert_eq!(both.unwrap(b"a", &old).unwrap(), raw);
        assert!(both.knows(&old) && !both.is_newest(&old));
        assert!(both.is_newest(&both.wrap(b"a", &raw).unwrap()));
        assert!(matches!(both.unwrap(b"b", &old), Err(Flaw::Changed)));
        assert!(matches!(ring(&[2]).unwrap(b"a", &old), Err(Flaw::OtherKey)));
        assert!(matches!(both.unwrap(b"a", &old[..5]), Err(Flaw::Changed)));
    }
}
