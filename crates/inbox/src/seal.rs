//! The one place through which bank data goes to the disk and comes back: bodies of events, pages, fetched connections,
//! kept starts of refused bodies.
//!
//! Today everything is stored as it is. Encryption at rest changes this file alone, and the lengths that are kept beside
//! the data ([`crate::Desk`], [`crate::Shelf`]) are those of the plain text, so that a delivery knows its length without
//! opening anything.

use bytes::Bytes;

/// What is written in place of the plain text.
pub(crate) fn seal(plain: &[u8]) -> &[u8] {
    plain
}

/// The plain text of what was written.
pub(crate) fn open(stored: Vec<u8>) -> Bytes {
    stored.into()
}
