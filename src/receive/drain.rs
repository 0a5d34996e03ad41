//! How far the end of the listener has come, for connections and answers.
//!
//! What asks for the end is a `CancellationToken`; this is what follows from it, step by step.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::watch;

/// How long the end of a connection is announced before idle ones are closed.
pub(super) const NOTICE: Duration = Duration::from_secs(1);

/// The steps of the drain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Not begun.
    Serving,
    /// Announcing the end.
    Notice,
    /// Closing what is idle.
    Closing,
    /// Dropping what is left.
    Cut,
}

/// The step that the drain is at.
#[derive(Debug)]
pub(super) struct Drain {
    phase: watch::Sender<Phase>,
    /// The same as "beyond `Serving`", for each answer: reading an atomic costs nothing, the phase has a lock.
    has_begun: AtomicBool,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving), has_begun: AtomicBool::new(false) }
    }

    /// Whether HTTP/1 answers say `Connection: close`.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    /// Shows each step to a connection.
    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Answers announce the end from now on, connections are not told yet.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Relaxed);
    }

    /// Tells all connections of a step.
    pub(super) fn reach(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}
