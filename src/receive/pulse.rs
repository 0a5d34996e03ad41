//! Whether the loop that accepts callers still turns.
//!
//! A timer of its own would go on beside a loop that hangs. So the loop itself counts its turns, and whoever wants to know
//! looks whether there are more of them than the last time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A loop that has nothing to do makes a turn this often.
pub(super) const EVERY: Duration = Duration::from_millis(500);

/// Counts the turns of the loop; clones count the same ones.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Notes a turn.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Turns so far. While callers can be accepted, there are more of them after a second.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
