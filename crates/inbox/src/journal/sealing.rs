//! The key of a segment: made with it, wrapped in its header, found again by whoever reads it. A record is bound to its inbox,
//! its segment and its position.

use super::frame::Header;
use crate::seal::{Cipher, Flaw, OVERHEAD, Ring, Wrapped, random};
use bytes::Bytes;
use std::sync::Arc;

/// How the records of a journal are sealed; they are not, where there is no key file.
#[derive(Clone, Debug)]
pub(super) struct Sealing {
    pub(super) identity: [u8; 16],
    ring: Option<Arc<Ring>>,
}

/// Seals or opens the records of one segment.
#[derive(Debug)]
pub(super) struct SegmentKey {
    cipher: Cipher,
    /// What a record is bound to, but for its position.
    place: Vec<u8>,
}

impl Sealing {
    pub(super) const fn new(identity: [u8; 16], ring: Option<Arc<Ring>>) -> Self {
        Self { identity, ring }
    }

    /// A key for a new segment, and the same key as the header has it.
    pub(super) fn make(&self, number: u64) -> Result<Option<(SegmentKey, Wrapped)>, Flaw> {
        let Some(ring) = &self.ring else { return Ok(None) };
        let (raw, place) = (random()?, self.place(number));
        let wrapped = ring.wrap(&place, &raw)?;
        Ok(Some((SegmentKey { cipher: Cipher::new(&raw)?, place }, wrapped)))
    }

    /// The key of a segment with this header; `None`: its records are written as they are.
    pub(super) fn find(&self, header: &Header) -> Result<Option<SegmentKey>, Flaw> {
        let Some(wrapped) = &header.key else { return Ok(None) };
        let place = self.place(header.number);
        let raw = self.ring.as_ref().ok_or(Flaw::NoKey)?.unwrap(&place, wrapped)?;
        Ok(Some(SegmentKey { cipher: Cipher::new(&raw)?, place }))
    }

    fn place(&self, number: u64) -> Vec<u8> {
        [b"segment ".as_slice(), &self.identity, &number.to_le_bytes()].concat()
    }
}

impl SegmentKey {
    /// By how much a record grows.
    pub(super) const OVERHEAD: usize = OVERHEAD;

    pub(super) fn seal(&self, position: u64, payload: &[u8]) -> Result<Bytes, Flaw> {
        Ok(self.cipher.seal(&self.at(position), payload)?.into())
    }

    pub(super) fn open(&self, position: u64, sealed: &Bytes) -> Result<Bytes, Flaw> {
        self.cipher.open(&self.at(position), sealed.to_vec())
    }

    fn at(&self, position: u64) -> Vec<u8> {
        [self.place.as_slice(), &position.to_le_bytes()].concat()
    }
}
