//! A data key that is ready for use: seals and opens what belongs to its owner.

use super::{
    cipher::Cipher,
    flaw::Flaw,
    place::{Owner, Place},
};
use bytes::Bytes;
use std::borrow::Cow;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct DataKey {
    id: i64,
    cipher: Cipher,
}

/// What is written to a row.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The id of its key; `None`: it is written as it is.
    pub(crate) key: Option<i64>,
}

impl DataKey {
    pub(super) const fn new(id: i64, cipher: Cipher) -> Self {
        Self { id, cipher }
    }

    /// What rows name it by.
    pub(crate) const fn id(&self) -> i64 {
        self.id
    }

    /// The digest that stands beside a body under this key.
    pub(crate) fn digest(&self, body: &[u8]) -> [u8; 32] {
        self.cipher.digest(body)
    }

    /// What is to be written in place of a plain text of its owner.
    pub(crate) fn seal<'a>(&self, owner: &Owner, place: Place, plain: &[u8]) -> Result<Sealed<'a>, Flaw> {
        Ok(Sealed { bytes: Cow::Owned(self.cipher.seal(&place.bytes(owner), plain)?), key: Some(self.id) })
    }

    /// The plain text of what was written.
    pub(crate) fn open(&self, owner: &Owner, place: Place, stored: Vec<u8>) -> Result<Bytes, Flaw> {
        self.cipher.open(&place.bytes(owner), stored)
    }
}

impl<'a> Sealed<'a> {
    /// Written as it is.
    pub(crate) const fn plain(text: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(text), key: None }
    }
}
