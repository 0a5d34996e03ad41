//! What happened, minute by minute: one row for each receiver, kept for seven days, so that a chart of the last days costs next
//! to nothing.

use crate::{Error, Span};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::{fmt, time::Duration};

/// How long minutes are kept.
pub(crate) const KEPT: Duration = Duration::from_hours(7 * 24);

/// What happened in a minute, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// When it began.
    pub at: Timestamp,
    /// Events that were accepted, each once.
    pub received: u64,
    /// Deliveries that a sink took.
    pub delivered: u64,
    /// Deliveries that were parked.
    pub parked: u64,
    /// From acceptance to delivery, over all deliveries together, in milliseconds.
    pub took_ms: u64,
}

/// What charts need of an inbox.
///
/// # Errors
/// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: nothing was changed; try again later.
#[async_trait]
pub trait Charts: Send + Sync + fmt::Debug {
    /// Notes a minute of a receiver, and forgets what is older than seven days. The same minute again is added to it.
    async fn note(&self, receiver: &str, minute: &Minute) -> Result<(), Error>;

    /// What happened in a span of time, over all receivers, in steps of so many minutes; the oldest first. Steps in which nothing
    /// was noted are left out.
    async fn minutes(&self, span: Span, step: u32) -> Result<Vec<Minute>, Error>;
}
