//! What the sinks are given of an entry, for people who look on.
//!
//! In: what the inbox knows of the entry. Out: a [`Document`], made as a delivery is made, from what the inbox holds now. What was
//! delivered before a replay may have been another one: nothing keeps deliveries.

use super::{
    body::inbox_error,
    compose::{Given, Stop, compose},
};
use bytes::Bytes;
use delivery::Attributes;
use futures_util::StreamExt as _;
use inbox::{Error, Facts, Shelf};
use std::sync::Arc;

/// What a delivery of an entry is.
#[derive(Debug)]
pub enum Document {
    /// There is none, and why: one sentence.
    Missing(String),
    /// Its attributes, and so many bytes, which are more than were wanted.
    TooLong(Attributes, u64),
    /// Its attributes and its body.
    Whole(Attributes, Bytes),
}

/// Makes the delivery of an entry, of `most` bytes at most. `source` is the base of the vendor's API. `linxostale` is never set: that
/// is decided for each sink, when it is delivered to.
///
/// # Errors
/// Those of the inbox.
pub async fn document(
    shelf: &Arc<dyn Shelf>,
    source: &str,
    (entry, body): (&Facts, &Bytes),
    most: u64,
) -> Result<Document, Error> {
    let delivery = match compose(shelf, source, Given { entry, body, is_stale: false }, None).await {
        Ok(delivery) => delivery,
        Err(Stop::Park { reason, .. }) => return Ok(Document::Missing(reason)),
        Err(Stop::Inbox(error)) => return Err(error),
    };
    let length = delivery.body.length();
    if length > most {
        return Ok(Document::TooLong(delivery.attributes, length));
    }
    let mut whole = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    let mut pieces = delivery.body.open();
    while let Some(piece) = pieces.next().await {
        whole.extend_from_slice(&piece.map_err(inbox_error)?);
    }
    Ok(Document::Whole(delivery.attributes, whole.into()))
}
