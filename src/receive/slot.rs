//! A connection's place among all of them, and how far the drain has come for everybody.

use crate::metrics::Metrics;
use std::{sync::Arc, time::Duration};
use tokio::sync::OwnedSemaphorePermit;

/// How long the end of a connection is announced before idle ones are closed.
pub(super) const NOTICE: Duration = Duration::from_secs(1);

/// How far the drain has come; connections watch it.
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

/// The place of one socket; given back when dropped, whatever ended its task.
pub(super) struct Slot {
    pub(super) metrics: Arc<Metrics>,
    pub(super) handshake: Option<OwnedSemaphorePermit>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Lets another socket begin its handshake.
    pub(super) fn handshake_is_over(&mut self) {
        self.handshake = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
