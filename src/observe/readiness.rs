//! Where the process is in its life, for everybody who answers differently because of it.
//!
//! One [`Readiness`] is made at start and cloned to the parts. It moves forward only: a draining process never becomes
//! ready again.

use tokio::sync::watch;

/// Phases of the process, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not every part runs yet.
    Starting,
    /// Every part runs.
    Ready,
    /// Open work is finished, new work is refused.
    Draining,
}

/// The phase, shared.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<Phase>);

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Begins in [`Phase::Starting`].
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Moves forward to `phase`; does nothing when the process is there or further already.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let forward = *current < phase;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// Resolves once the process is in `phase` or further.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn reached(&self, phase: Phase) {
        // `self` holds the sender, so that the channel cannot close while waiting.
        self.0.subscribe().wait_for(|current| *current >= phase).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moves_forward_only() {
        let readiness = Readiness::new();
        let seen = readiness.clone();
        assert_eq!(seen.phase(), Phase::Starting);
        readiness.advance(Phase::Draining);
        readiness.advance(Phase::Ready);
        assert_eq!(seen.phase(), Phase::Draining);
        seen.reached(Phase::Ready).await;
    }
}
