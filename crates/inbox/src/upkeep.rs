//! What the service that owns a store does with it from time to time: figures, retention, the end.

use crate::{Error, Seq, SinkName, Stage};
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

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: Timestamp,
    /// Of which entry.
    pub seq: Seq,
    /// What happened, in one sentence.
    pub reason: String,
}

/// Figures for metrics and readiness.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Unfinished and parked work: every fetch, then the configured sinks in their order, then sinks that are not configured any
    /// more and have some.
    pub stages: Vec<(Stage, StageCounts)>,
    /// When the oldest unfinished entry was accepted.
    pub oldest_unfinished: Option<Timestamp>,
    /// For each stage that has something to work on: when the oldest entry was accepted that is first in its line there. What
    /// waits for its fetch counts as work of the fetch.
    pub oldest_by_stage: Vec<(Stage, Timestamp)>,
    /// For each sink that keeps strict order: how many connections have something that waits behind a parked entry. Where more than
    /// [`Stats::HELD`] entries are parked there, only so many are looked at.
    pub held: Vec<(Stage, u64)>,
    /// The last failed attempt of each stage that ever had one.
    pub failures: Vec<(Stage, Failure)>,
    /// When the newest entry was accepted.
    pub last_accepted: Option<Timestamp>,
    /// Bytes that are free on the disk that takes events; `None` where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Bytes of the store on disk, log included.
    pub size_bytes: u64,
    /// Bytes of the store's file that it does not use, and uses again before it grows.
    pub reusable_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Accepted events that are in the journal and not yet in the store.
    pub unfolded: u64,
    /// When the oldest of them was accepted, where a journal stands beside a server; about, and never later.
    pub oldest_unfolded: Option<Timestamp>,
    /// Whether events cannot be moved from the journal into the store at present.
    pub is_fold_stuck: bool,
    /// Whether the server of the store does not answer.
    pub is_away: bool,
    /// Whether the server holds another inbox than before.
    pub is_foreign: bool,
}

impl Stats {
    /// Parked entries of a sink that are looked at for [`held`](Self::held) at most.
    pub const HELD: u32 = 10_000;

    /// The work for a sink.
    #[must_use]
    pub fn of_sink(&self, sink: &SinkName) -> StageCounts {
        let stage = Stage::Deliver(sink.clone());
        self.stages.iter().find(|(found, _)| *found == stage).map(|(_, counts)| *counts).unwrap_or_default()
    }
}

/// What one call of [`Upkeep::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Entries that were deleted.
    pub deleted: u64,
    /// Whether every old entry was looked at since the round began.
    pub is_done: bool,
}

/// What one call of [`Upkeep::seal`] or [`Upkeep::unseal`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Rows that were written anew.
    pub changed: u64,
    /// Whether there is nothing left to do.
    pub is_done: bool,
}

/// What the service that owns a store needs of it.
#[async_trait]
pub trait Upkeep: Send + Sync + fmt::Debug {
    /// Figures for metrics and readiness.
    ///
    /// # Errors
    /// [`Error::Store`]: ask again later.
    async fn stats(&self) -> Result<Stats, Error>;

    /// Deletes up to `limit` done entries that were accepted and settled before `cutoff`, and refused requests from before
    /// it. Each call looks at some entries only, and the next one goes on behind them: call it until the round is done.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<Expired, Error>;

    /// Moves what the log beside the store holds into the store, as far as nobody is in the way. Before that it sets room aside for
    /// deletions on a full disk, where there is room and that is missing.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Open`]: the store's file cannot be written, and its log grows.
    async fn checkpoint(&self) -> Result<(), Error>;

    /// Seals up to `limit` rows that were written before the seal: call it until it is done.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn seal(&self, limit: usize) -> Result<Resealed, Error>;

    /// Takes the seal from up to `limit` rows: call it until it is done. The store is not sealed any more then, and is to be
    /// closed. Nothing may be accepted meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`]: a row cannot be opened; [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn unseal(&self, limit: usize) -> Result<Resealed, Error>;

    /// Sees to it that nothing of what was deleted stays in a log beside the store. Waits a moment for whoever uses the
    /// store; call it after deletions.
    ///
    /// # Errors
    /// [`Error::Open`]: somebody uses the store; ask again later.
    async fn fold_log(&self) -> Result<(), Error>;

    /// Resolves when a store that another program held locked at the start is free: the inbox is to be closed then, and opened anew.
    /// Otherwise it never does.
    async fn usable_again(&self) {
        std::future::pending::<()>().await;
    }

    /// Waits for open writes and closes the store.
    async fn close(&self);
}
