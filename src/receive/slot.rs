//! A connection's place among all of them.

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;

/// The place of one socket; given back when dropped, whatever ended its task.
pub(super) struct Slot {
    /// Open sockets.
    connections: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    pub(super) fn new(connections: Gauge, permit: OwnedSemaphorePermit) -> Self {
        connections.inc();
        Self { connections, _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.dec();
    }
}
