//! What an inbox keeps of a sink as a whole: whether an operator paused it, and what goes back in line when it is well again.

use crate::{
    Error, SinkName,
    rules::{Order, merging::MOST_MERGED},
};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::{collections::BTreeMap, fmt};

/// What is kept of sinks, beside their work.
///
/// Every method is cancel safe in this sense: when its future is dropped, the change either happens whole or not at all.
///
/// # Errors
/// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: nothing was changed; try again later.
#[async_trait]
pub trait Sinks: Send + Sync + fmt::Debug {
    /// The sinks that are paused, and since when. A pause outlives the process.
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error>;

    /// Pauses a sink, or lets it go on. One that is paused already keeps its time. Returns whether that changed anything; a name
    /// that this inbox has never seen changes nothing.
    async fn pause(&self, sink: &SinkName, pause: bool) -> Result<bool, Error>;

    /// Says what a parked delivery of this sink means to later ones of its connection. Lines that something is parked in are arranged
    /// anew. Returns whether that changed anything; a sink that is not configured changes nothing.
    async fn set_order(&self, sink: &SinkName, order: Order) -> Result<bool, Error>;

    /// Puts back in line up to `limit` deliveries that were parked because of this sink's trouble
    /// ([`Cause::passes`](crate::Cause::passes)) and have not gone back by themselves
    /// since `before`, the oldest first; events that leave together are one delivery. Returns how many deliveries there were.
    async fn resume(&self, sink: &SinkName, before: Timestamp, limit: usize) -> Result<u64, Error>;
}

/// How many parked entries are looked at for so many deliveries: several may be one.
pub(crate) const fn entries_of(deliveries: usize) -> usize {
    deliveries.saturating_mul(2).saturating_add(MOST_MERGED)
}
