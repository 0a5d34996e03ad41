//! Bounds what all requests together may hold: their number, and the memory of their bodies and of large heads.
//!
//! A body pays for the memory that it truly takes, as it comes: what a caller only announces costs nothing, so nobody can
//! use up the budget with a handful of heads. What is over is answered 503 at once instead of after a wait, because
//! waiting bodies would hold the very memory that they wait for.

use super::problem::Refusal;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit stands for; a semaphore hands out at most `u32::MAX` at once.
const UNIT: usize = 1024;

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

    /// A place for one request, without memory yet.
    pub(super) fn begin(&self) -> Result<Place, Refusal> {
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_full| Refusal::Overloaded)?;
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

    #[test]
    fn requests_and_memory_are_given_back() {
        let budget = Budget::new(2, 8 * 1024);
        let mut first = budget.begin().unwrap();
        let mut second = budget.begin().unwrap();
        assert_eq!(budget.begin().unwrap_err(), Refusal::Overloaded);
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
}
