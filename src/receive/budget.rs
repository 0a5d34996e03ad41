//! Bounds what all requests together may hold: their number, and the memory of their bodies and of large heads.
//!
//! A body pays for the memory that it truly takes, as it comes: what a caller only announces costs nothing, so nobody can
//! use up the budget with a handful of heads. Memory that is over is answered 503 at once instead of after a wait, because
//! waiting bodies would hold the very memory that they wait for. A place is waited for: before its body a request holds
//! next to nothing, and a refused event may be lost. To refuse a request costs half as much as to take it, so callers that
//! come back at once after each 503 would take the time of those who are served.

use super::problem::Refusal;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Bytes that one permit stands for; a semaphore hands out at most `u32::MAX` at once.
const UNIT: usize = 1024;
/// How long a request waits for a place. Much longer than a commit takes, so that only a store that stands still or many
/// thousand callers use it up; and short enough for a caller to be answered within a second.
const PLACE_WAIT: Duration = Duration::from_millis(800);

/// What there is.
#[derive(Debug)]
pub(super) struct Budget {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new(requests: usize, memory: u64) -> Self {
        let units = usize::try_from(memory).unwrap_or(usize::MAX) / UNIT;
        Self {
            requests: Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS))),
            memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Memory for a large head.
    pub(super) fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        take(&self.memory, bytes.div_ceil(UNIT))
    }

    /// Bytes that nobody has taken.
    #[cfg(test)]
    pub(super) fn memory_left(&self) -> usize {
        self.memory.available_permits() * UNIT
    }

    /// A place for one request, without memory yet. Waits for it up to [`PLACE_WAIT`].
    ///
    /// # Cancel safety
    /// Dropped, it loses its turn and nothing else.
    pub(super) async fn begin(&self) -> Result<Place, Refusal> {
        let free = Arc::clone(&self.requests).try_acquire_owned();
        let request = match free {
            Ok(request) => request,
            Err(_full) => match timeout(PLACE_WAIT, Arc::clone(&self.requests).acquire_owned()).await {
                Ok(Ok(request)) => request,
                Ok(Err(_)) | Err(_) => return Err(Refusal::Overloaded),
            },
        };
        Ok(Place { memory: Arc::clone(&self.memory), held: None, _request: request })
    }
}

fn take(memory: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let units = u32::try_from(units).map_err(|_far_over| Refusal::BodyMemory)?;
    Arc::clone(memory).try_acquire_many_owned(units).map_err(|_full| Refusal::BodyMemory)
}

/// What one request holds; given back when dropped, which is after its commit, not after its answer.
#[derive(Debug)]
pub(super) struct Place {
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    _request: OwnedSemaphorePermit,
}

impl Place {
    /// Pays for a body that takes `bytes` of memory altogether.
    pub(super) fn cover(&mut self, bytes: usize) -> Result<(), Refusal> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = take(&self.memory, more)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_and_memory_are_given_back() {
        let budget = Budget::new(2, 8 * 1024);
        let mut first = budget.begin().await.unwrap();
        let mut second = budget.begin().await.unwrap();
        assert_eq!(budget.begin().await.unwrap_err(), Refusal::Overloaded);
        first.cover(1).unwrap();
        first.cover(1024).unwrap();
        first.cover(6 * 1024).unwrap();
        assert_eq!(budget.memory.available_permits(), 2);
        assert_eq!(second.cover(3 * 1024), Err(Refusal::BodyMemory));
        second.cover(2 * 1024).unwrap();
        assert_eq!(first.cover(usize::MAX), Err(Refusal::BodyMemory));
        drop(first);
        second.cover(8 * 1024).unwrap();
        drop(second);
        assert_eq!((budget.memory.available_permits(), budget.requests.available_permits()), (8, 2));
    }

    /// (D18) Overload is waited out for a moment: who comes back at once after each answer is served instead of refused.
    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_in_a_moment_is_waited_for() {
        let budget = Arc::new(Budget::new(1, 1024));
        let held = budget.begin().await.unwrap();
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.begin().await.is_ok() }
        });
        tokio::time::sleep(PLACE_WAIT / 2).await;
        drop(held);
        assert!(waiting.await.unwrap());
        let _held = budget.begin().await.unwrap();
        let before = tokio::time::Instant::now();
        assert_eq!(budget.begin().await.unwrap_err(), Refusal::Overloaded);
        assert_eq!(before.elapsed(), PLACE_WAIT);
    }
}
