//! Tells whoever watches this process what came of each attempt at a delivery, as it ends. `listen` shows it.
//!
//! Nothing is made or kept where nobody watches. A watcher that falls behind misses attempts and is told how many; the work
//! never waits for one. Not here: the log and the figures, which every service has.

use base::clock::Timestamp;
use delivery::Attributes;
use inbox::Outcome;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Attempts that a watcher may be behind.
const BEHIND: usize = 1024;

/// One attempt at a delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was delivered.
    pub attributes: Attributes,
    /// Its number for this entry and sink, from 1.
    pub number: u32,
    /// When it ended.
    pub ended: Timestamp,
    /// How long it lasted.
    pub took: Duration,
    /// What came of it.
    pub end: End,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The sink has it.
    Taken,
    /// It is tried again.
    Again {
        /// When.
        due: Timestamp,
        /// What happened, in one sentence.
        reason: String,
    },
    /// A person must act.
    Parked {
        /// What happened, in one sentence.
        reason: String,
    },
}

/// The attempts of this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<OnceLock<Sender<Attempt>>>);

impl Attempts {
    /// Every attempt that ends from now on.
    #[must_use]
    pub fn watch(&self) -> Receiver<Attempt> {
        self.0.get_or_init(|| broadcast::channel(BEHIND).0).subscribe()
    }

    /// Tells of an attempt, where its outcome is the end of one.
    pub(super) fn tell(
        &self,
        (attributes, number): (&Attributes, u32),
        (ended, took): (Timestamp, Duration),
        outcome: &Outcome,
    ) {
        let Some(watchers) = self.0.get() else { return };
        let end = match outcome {
            Outcome::Done => End::Taken,
            Outcome::Retry { due, reason, .. } => End::Again { due: *due, reason: reason.clone() },
            Outcome::Park { reason, .. } => End::Parked { reason: reason.clone() },
            _ => return,
        };
        // Nobody watches any more: that is no fault.
        watchers.send(Attempt { attributes: attributes.clone(), number, ended, took, end }).ok();
    }
}
