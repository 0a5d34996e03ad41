//! So many requests a second at most, spread evenly.
//!
//! The rate is an argument, and not kept here: after a reload two clients with different rates share one pace, and together
//! they stay within the rate of the newer one.
//!
//! By hand and not by the crate `governor`: its limiters keep the rate that they were made with, so a reload would forget what
//! was sent a moment ago; and callers that wait there race for their turn instead of going in order.

use base::sync::lock;
use std::{num::NonZeroU32, sync::Mutex, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Spreads requests evenly: each gets a moment of its own, the next a fixed time after it.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for this caller's moment. A caller that gives up leaves its moment unused.
    pub(crate) async fn turn(&self, rate: Option<NonZeroU32>) {
        let Some(rate) = rate else { return };
        let at = {
            let mut next = lock(&self.0);
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
    use tokio::time::sleep;

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
}
