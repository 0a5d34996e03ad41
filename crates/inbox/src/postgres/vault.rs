//! What the store keeps of bank data: as it is. The seal (`inbox.key`) is for the file alone so far, and a server is not opened with a key
//! (`open`). The column `key` of each row names the data key that seals it, where there is one; a row that names one is not opened here.

use crate::seal::Flaw;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// What was written, where no key seals it.
pub(super) fn open(key: Option<i64>, stored: Vec<u8>) -> Result<Bytes, Flaw> {
    if key.is_some() { Err(Flaw::NoKey) } else { Ok(stored.into()) }
}

/// The digest that stands beside a body.
pub(super) fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}
