//! A connection's place among all of them.

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;

/// The place of one socket; given back when dropped, whatever ended its task.
pub(super) struct Slot {
    /// Open sockets.
    connections: Gauge,
    handshake: Option<OwnedSemaphorePermit>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    pub(super) fn new(connections: Gauge, permit: OwnedSemaphorePermit, handshake: OwnedSemaphorePermit) -> Self {
        connections.inc();
        Self { connections, handshake: Some(handshake), _permit: permit }
    }

    /// Lets another socket begin its handshake.
    pub(super) fn handshake_is_over(&mut self) {
        self.handshake = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.dec();
    }
}
