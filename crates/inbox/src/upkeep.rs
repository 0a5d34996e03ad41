//! What the service that owns a store does with it from time to time: figures, retention, the end.

use crate::{Error, Stage};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::fmt;

/// How many stages are in a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// [`crate::State::Waiting`]
    pub waiting: u64,
    /// [`crate::State::Leased`]
    pub leased: u64,
    /// [`crate::State::Parked`]
    pub parked: u64,
}

/// Figures for metrics and readiness.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Unfinished and parked work: every fetch, then the configured sinks in their order.
    pub stages: Vec<(Stage, StageCounts)>,
    /// When the oldest unfinished entry was accepted.
    pub oldest_unfinished: Option<Timestamp>,
    /// Bytes of the store on disk, log included.
    pub size_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
}

/// What the service that owns a store needs of it.
#[async_trait]
pub trait Upkeep: Send + Sync + fmt::Debug {
    /// Figures for metrics and readiness.
    ///
    /// # Errors
    /// [`Error::Store`]: ask again later.
    async fn stats(&self) -> Result<Stats, Error>;

    /// Deletes up to `limit` done entries that were accepted and settled before `cutoff`; returns how many. Deletes
    /// refused requests from before it too.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<u64, Error>;

    /// Waits for open writes and closes the store.
    async fn close(&self);
}
