//! How far the process is in its life, for `/readyz`.
//!
//! This is shown, and asks nobody for anything: what asks the parts to stop is a `CancellationToken`, and whether that was
//! cancelled is where "draining" comes from. So the two cannot differ.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio_util::sync::CancellationToken;

/// Phases of the process, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every part runs yet.
    Starting,
    /// Every part runs.
    Ready,
    /// Open work is finished, new work is refused.
    Draining,
}

/// The phase of the process; clones show the same one.
#[derive(Clone, Debug)]
pub struct Readiness {
    is_up: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Readiness {
    /// Begins in [`Phase::Starting`]. `stop` is what asks the process to drain.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { is_up: Arc::default(), stop }
    }

    /// Notes that every part runs.
    pub fn set_ready(&self) {
        self.is_up.store(true, Relaxed);
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        if self.stop.is_cancelled() {
            Phase::Draining
        } else if self.is_up.load(Relaxed) {
            Phase::Ready
        } else {
            Phase::Starting
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_forward_only() {
        let stop = CancellationToken::new();
        let readiness = Readiness::new(stop.clone());
        let seen = readiness.clone();
        assert_eq!(seen.phase(), Phase::Starting);
        readiness.set_ready();
        assert_eq!(seen.phase(), Phase::Ready);
        stop.cancel();
        readiness.set_ready();
        assert_eq!(seen.phase(), Phase::Draining);
    }
}
