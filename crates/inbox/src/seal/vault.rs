//! Seals and opens what the store keeps: the one place through which bank data goes into its rows and comes back.
//!
//! Keys in use are remembered, a bounded number of them. Without `inbox.key` everything is stored as it is.

use super::{
    data_key::{DataKey, Sealed},
    flaw::Flaw,
    keys::KeysFile,
    known::Known,
    place::{Owner, Place},
    ring::Ring,
    wrapping::Kept,
};
use base::{clock::Timestamp, sync::lock};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Seal(Option<Vault>);

#[derive(Debug)]
struct Vault {
    file: KeysFile,
    /// `None`: a command that was given no key. It lists, and opens nothing.
    ring: Option<Arc<Ring>>,
    by_owner: Mutex<Known<Owner>>,
    by_id: Mutex<Known<i64>>,
}

impl Seal {
    /// With a keys store. Without a ring nothing can be sealed or opened.
    pub(crate) fn new(file: KeysFile, ring: Option<Arc<Ring>>) -> Self {
        Self(Some(Vault { file, ring, by_owner: Mutex::default(), by_id: Mutex::default() }))
    }

    /// Whether what is written from now on is sealed.
    pub(crate) fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|vault| vault.ring.is_some())
    }

    /// The keys store, where there is one.
    pub(crate) fn keys(&self) -> Option<&KeysFile> {
        self.0.as_ref().map(|vault| &vault.file)
    }

    /// Has keys ready for these owners: the missing ones are made in one commit.
    pub(crate) fn prepare(&self, owners: impl IntoIterator<Item = Owner>) -> Result<(), Flaw> {
        match &self.0 {
            Some(vault) => vault.prepare(owners.into_iter().collect()),
            None => Ok(()),
        }
    }

    /// The key that seals what belongs to an owner from now on; `None`: nothing is sealed.
    pub(crate) fn key(&self, owner: &Owner) -> Result<Option<Arc<DataKey>>, Flaw> {
        self.0.as_ref().map(|vault| vault.key(owner)).transpose()
    }

    /// What is to be written in place of a plain text.
    pub(crate) fn seal<'a>(&self, owner: &Owner, place: Place, plain: &'a [u8]) -> Result<Sealed<'a>, Flaw> {
        self.key(owner)?.map_or(Ok(Sealed::plain(plain)), |key| key.seal(owner, place, plain))
    }

    /// The plain text of what was written.
    pub(crate) fn open(&self, key: Option<i64>, owner: &Owner, place: Place, stored: Vec<u8>) -> Result<Bytes, Flaw> {
        let Some(id) = key else { return Ok(stored.into()) };
        self.by_id(id)?.open(owner, place, stored)
    }

    /// The digest that stands beside a body under this key.
    pub(crate) fn digest(&self, key: Option<i64>, body: &[u8]) -> Result<[u8; 32], Flaw> {
        match key {
            Some(id) => Ok(self.by_id(id)?.digest(body)),
            None => Ok(Sha256::digest(body).into()),
        }
    }

    fn by_id(&self, id: i64) -> Result<Arc<DataKey>, Flaw> {
        self.0.as_ref().ok_or(Flaw::NoKey)?.by_id(id)
    }

    /// What belongs to an owner is sealed with a new key from now on.
    pub(crate) fn renew(&self, owner: &Owner) -> Result<(), Flaw> {
        let Some(vault) = &self.0 else { return Ok(()) };
        let mut by_owner = lock(&vault.by_owner);
        vault.file.renew(owner, vault.ring()?)?;
        by_owner.forget(owner);
        Ok(())
    }

    /// Erases the key of an owner; says whether there was one. What it sealed cannot be opened any more, here and in copies.
    pub(crate) fn erase(&self, owner: &Owner, now: Timestamp) -> Result<bool, Flaw> {
        let Some(vault) = &self.0 else { return Ok(false) };
        // Held until the key is forgotten, so that nobody who looks for it meanwhile remembers it.
        let mut by_owner = lock(&vault.by_owner);
        let mut by_id = lock(&vault.by_id);
        let erased = vault.file.erase(owner, now)?;
        by_owner.forget(owner);
        for id in &erased {
            by_id.forget(id);
        }
        Ok(!erased.is_empty())
    }
}

impl Vault {
    fn ring(&self) -> Result<&Ring, Flaw> {
        self.ring.as_deref().ok_or(Flaw::NoKey)
    }

    fn prepare(&self, mut owners: Vec<Owner>) -> Result<(), Flaw> {
        let mut known = lock(&self.by_owner);
        owners.retain(|owner| known.get(owner).is_none());
        if owners.is_empty() {
            return Ok(());
        }
        for (owner, kept) in self.file.find_or_make(&owners, self.ring()?)? {
            known.put(owner, self.remember(&kept)?);
        }
        Ok(())
    }

    fn key(&self, owner: &Owner) -> Result<Arc<DataKey>, Flaw> {
        let mut known = lock(&self.by_owner);
        if let Some(key) = known.get(owner) {
            return Ok(key);
        }
        let found = self.file.find_or_make(std::slice::from_ref(owner), self.ring()?)?;
        let (owner, kept) = found.into_iter().next().ok_or(Flaw::Missing)?;
        let key = self.remember(&kept)?;
        known.put(owner, Arc::clone(&key));
        Ok(key)
    }

    fn by_id(&self, id: i64) -> Result<Arc<DataKey>, Flaw> {
        let mut known = lock(&self.by_id);
        if let Some(key) = known.get(&id) {
            return Ok(key);
        }
        let key = self.unwrap(&(id, self.file.by_id(id)?))?;
        known.put(id, Arc::clone(&key));
        Ok(key)
    }

    fn remember(&self, kept: &Kept) -> Result<Arc<DataKey>, Flaw> {
        let mut known = lock(&self.by_id);
        if let Some(key) = known.get(&kept.0) {
            return Ok(key);
        }
        let key = self.unwrap(kept)?;
        known.put(key.id(), Arc::clone(&key));
        Ok(key)
    }

    fn unwrap(&self, kept: &Kept) -> Result<Arc<DataKey>, Flaw> {
        self.ring()?.data_key(self.file.identity(), kept)
    }
}
