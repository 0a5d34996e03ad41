//! The audit trail: what operators did with the entries and the sinks, who it was, and when.

use crate::{Error, Span};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::fmt;

/// What an operator is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The operator, as far as the system knows.
    pub who: String,
    /// The command: `replay`, `park`, `purge`, `export`, `show`, `pause` and so on.
    pub what: String,
    /// Which entries, or which sink: the command's own options.
    pub which: String,
}

/// What an operator did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActView {
    /// Its number.
    pub number: i64,
    /// When it began.
    pub at: Timestamp,
    /// What it was.
    pub act: Act,
    /// How many entries it concerned; `None` where it did not end, or was not about entries.
    pub entries: Option<u64>,
}

/// What commands need of an audit trail.
///
/// # Errors
/// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: nothing was changed; try again later.
#[async_trait]
pub trait Audit: Send + Sync + fmt::Debug {
    /// Notes an act before it begins; returns its number.
    async fn begin(&self, act: &Act) -> Result<i64, Error>;

    /// Notes how many entries an act concerned.
    async fn end(&self, number: i64, entries: u64) -> Result<(), Error>;

    /// Acts that began in a span of time, newest first, at most `limit`.
    async fn acts(&self, span: Span, limit: usize) -> Result<Vec<ActView>, Error>;

    /// Forgets acts from before `cutoff`; returns how many there were.
    async fn forget(&self, cutoff: Timestamp) -> Result<u64, Error>;
}
