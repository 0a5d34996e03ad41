//! Seals and opens what the store keeps, where `inbox.key` is set. Keys are fetched before they are needed, many in one round trip,
//! because the ciphers themselves wait for nobody.

use crate::seal::{DataKey, Flaw, Owner, Place, Sealed};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// Where the keys come from.
#[derive(Debug, Default)]
pub(super) struct Vault;

impl Vault {
    /// Whether what is written from now on is sealed.
    pub(super) const fn is_on(&self) -> bool {
        false
    }

    /// The keys of these owners, made where they are missing.
    pub(super) async fn sealing(&self, _owners: impl IntoIterator<Item = Owner>) -> Result<Sealing, Flaw> {
        Ok(Sealing::default())
    }

    /// The keys with these ids.
    pub(super) async fn opening(&self, _ids: impl IntoIterator<Item = Option<i64>>) -> Result<Opening, Flaw> {
        Ok(Opening::default())
    }
}

/// Keys that are ready to seal what belongs to some owners.
#[derive(Debug, Default)]
pub(super) struct Sealing(HashMap<Owner, Arc<DataKey>>);

impl Sealing {
    /// The key of an owner; `None`: nothing is sealed.
    pub(super) fn key(&self, owner: &Owner) -> Option<&DataKey> {
        self.0.get(owner).map(|key| &**key)
    }

    /// What is to be written in place of a plain text.
    pub(super) fn seal<'a>(&self, owner: &Owner, place: Place, plain: &'a [u8]) -> Result<Sealed<'a>, Flaw> {
        match self.key(owner) {
            Some(key) => Ok(Sealed { bytes: Cow::Owned(key.seal(place, owner, plain)?), key: Some(key.id()) }),
            None => Ok(Sealed { bytes: Cow::Borrowed(plain), key: None }),
        }
    }
}

/// Keys that are ready to open some rows.
#[derive(Debug, Default)]
pub(super) struct Opening(HashMap<i64, Arc<DataKey>>);

impl Opening {
    /// The plain text of what was written.
    pub(super) fn open(&self, key: Option<i64>, owner: &Owner, place: Place, stored: Vec<u8>) -> Result<Bytes, Flaw> {
        match key {
            Some(id) => self.key(id)?.open(place, owner, stored),
            None => Ok(stored.into()),
        }
    }

    /// The digest that stands beside a body under this key.
    pub(super) fn digest(&self, key: Option<i64>, body: &[u8]) -> Result<[u8; 32], Flaw> {
        match key {
            Some(id) => Ok(self.key(id)?.digest(body)),
            None => Ok(Sha256::digest(body).into()),
        }
    }

    fn key(&self, id: i64) -> Result<&DataKey, Flaw> {
        self.0.get(&id).map(|key| &**key).ok_or(Flaw::Missing)
    }
}
