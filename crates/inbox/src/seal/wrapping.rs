//! What a ring wraps for a keys store: data keys, each for its id, and a canary. The same for each kind of keys store.

use super::{
    cipher::{Cipher, random},
    data_key::DataKey,
    flaw::Flaw,
    ring::{Ring, Wrapped},
};
use std::sync::Arc;

/// A data key as it is kept: its id, and the key, wrapped.
pub(crate) type Kept = (i64, Vec<u8>);

/// What a data key of an inbox is wrapped for.
fn purpose(identity: &[u8; 16], id: i64) -> Vec<u8> {
    [b"key ".as_slice(), identity, &id.to_le_bytes()].concat()
}

fn of_canary(identity: &[u8; 16]) -> Vec<u8> {
    [b"canary ".as_slice(), identity].concat()
}

impl Ring {
    /// A new data key of an inbox.
    pub(crate) fn make(&self, identity: &[u8; 16]) -> Result<Kept, Flaw> {
        let mut id = [0; 8];
        id.copy_from_slice(random()?.get(..8).unwrap_or_default());
        // Positive, because people meet it.
        let id = i64::from_le_bytes(id) & i64::MAX;
        Ok((id, self.wrap(&purpose(identity, id), &random()?)?.to_vec()))
    }

    /// The data key that is kept so.
    pub(crate) fn data_key(&self, identity: &[u8; 16], (id, wrapped): &Kept) -> Result<Arc<DataKey>, Flaw> {
        let raw = self.unwrap(&purpose(identity, *id), wrapped)?;
        Ok(Arc::new(DataKey::new(*id, Cipher::new(&raw)?)))
    }

    /// A data key as it is kept under the newest key of the ring.
    pub(crate) fn rewrap(&self, identity: &[u8; 16], (id, wrapped): &Kept) -> Result<Wrapped, Flaw> {
        let purpose = purpose(identity, *id);
        self.wrap(&purpose, &self.unwrap(&purpose, wrapped)?)
    }

    /// A wrapped key that nothing is sealed with; a wrong key file cannot open it.
    pub(crate) fn canary(&self, identity: &[u8; 16]) -> Result<Wrapped, Flaw> {
        self.wrap(&of_canary(identity), &random()?)
    }

    /// Finds out whether this ring is the right one.
    pub(crate) fn try_canary(&self, identity: &[u8; 16], canary: &[u8]) -> Result<(), Flaw> {
        self.unwrap(&of_canary(identity), canary).map(drop)
    }
}
