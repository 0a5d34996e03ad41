//! How much is asked of a server: so many requests at once, so many a second.
//!
//! Calls that have to wait go in the order in which they came. The limits are arguments, and not kept here: after a reload two
//! clients with different limits share one gate, and together they stay within the limits of the newer one.
//!
//! By hand and not by the crate `governor`: its limiters keep the rate that they were made with, so a reload would forget what
//! was sent a moment ago; and callers that wait there race for their turn instead of going in order.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{self, Notify},
    time::{Instant, sleep_until},
};

/// Counts the requests under way.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Held by the first of those who wait.
    first: sync::Mutex<()>,
    inside: AtomicUsize,
    left: Notify,
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Gate);

impl Gate {
    /// Waits until fewer than `most` are inside.
    ///
    /// # Cancel safety
    /// A caller that is dropped loses its place in the queue and nothing else.
    pub(crate) async fn enter(&self, most: usize) -> Inside<'_> {
        let _first = self.first.lock().await;
        loop {
            let left = self.left.notified();
            // Only the first of the queue adds to it.
            if self.inside.load(Ordering::Acquire) < most.max(1) {
                self.inside.fetch_add(1, Ordering::AcqRel);
                return Inside(self);
            }
            left.await;
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_one();
    }
}

/// Spreads requests evenly: each gets a moment of its own, the next a fixed time after it.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for this caller's moment. A caller that gives up leaves its moment unused.
    pub(crate) async fn turn(&self, rate: Option<NonZeroU32>) {
        let Some(rate) = rate else { return };
        let at = {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = next.map_or_else(Instant::now, |next| next.max(Instant::now()));
            *next = Some(at + Duration::from_secs(1) / rate.get());
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::join_all};
    use std::sync::Arc;
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_over_the_second() {
        let pace = Pace::default();
        let rate = NonZeroU32::new(10);
        let start = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..21 {
            pace.turn(rate).await;
            turns.push(start.elapsed());
        }
        assert_eq!(turns[0], Duration::ZERO);
        for pair in turns.windows(2) {
            assert!(pair[1].saturating_sub(pair[0]) >= Duration::from_millis(100), "{pair:?}");
        }
        sleep(Duration::from_secs(5)).await;
        let rested = start.elapsed();
        pace.turn(rate).await;
        assert_eq!(start.elapsed(), rested, "a rest earns no burst and costs no wait");
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_inside_than_allowed_and_all_come_in() {
        let gate = Arc::new(Gate::default());
        let (most, peak) = (3, Arc::new(AtomicUsize::new(0)));
        let visits = (0..50).map(|number| {
            let (gate, peak) = (Arc::clone(&gate), Arc::clone(&peak));
            async move {
                let inside = gate.enter(most).await;
                peak.fetch_max(gate.inside.load(Ordering::Relaxed), Ordering::Relaxed);
                sleep(Duration::from_millis(number % 7)).await;
                drop(inside);
            }
        });
        timeout(Duration::from_mins(1), join_all(visits)).await.unwrap();
        assert_eq!((peak.load(Ordering::Relaxed), gate.inside.load(Ordering::Relaxed)), (most, 0));
    }

    #[tokio::test]
    async fn a_lower_limit_counts_those_who_came_in_before() {
        let gate = Gate::default();
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(gate.enter(4).await);
        }
        for _ in 0..2 {
            inside.pop();
            assert!(gate.enter(2).now_or_never().is_none(), "two are inside still");
        }
        inside.pop();
        // Those who gave up waiting hold up nobody.
        assert!(gate.enter(2).now_or_never().is_some());
    }
}
