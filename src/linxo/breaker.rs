//! Leaves a failing server alone: after [`FAILURES`] in a row nothing is asked for a while, then one call tries.
//!
//! In: how each call ended. Out: whether the next may be made. Only a server that fails counts (no answer, or 5xx); a
//! refusal concerns one user and shows that the server lives. While one call tries, others wait for how it ends instead
//! of failing, so that a server that is back gets its work at once.

use super::{Error, Peer};
use crate::metrics::{ApiPeer, Metrics};
use prometheus_client::metrics::gauge::Gauge;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Failures in a row after which the server is left alone.
const FAILURES: u32 = 5;
/// The first wait; doubles each time the try fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How a call ended, as far as the server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered.
    Up,
    /// It did not, or said that it failed.
    Down,
    /// An answer that might come from anybody.
    Unclear,
}

#[derive(Debug)]
pub(super) struct Breaker {
    peer: Peer,
    state: Mutex<State>,
    /// A try has ended.
    settled: Notify,
    open: Gauge,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration },
    Trying { wait: Duration },
}

/// Leave to make one call; says how it ended by [`report`](Self::report), or, dropped, that nothing is known.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    breaker: &'a Breaker,
    is_try: bool,
}

impl Breaker {
    pub(super) fn new(peer: Peer, metrics: &Metrics) -> Self {
        let open = metrics.api_breaker_open.get_or_create(&ApiPeer { peer: peer.as_str() }).clone();
        open.set(0);
        Self { peer, state: Mutex::new(State::Closed { failures: 0 }), settled: Notify::new(), open }
    }

    /// How long nothing is asked yet.
    pub(super) fn pause(&self) -> Option<Duration> {
        match *self.state() {
            State::Open { until, .. } => {
                Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
            }
            State::Closed { .. } | State::Trying { .. } => None,
        }
    }

    /// Leave to make a call; waits while another call tries.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(super) async fn admit(&self) -> Result<Admission<'_>, Error> {
        loop {
            // Made before the look, so that no end of a try is missed.
            let settled = self.settled.notified();
            {
                let mut state = self.state();
                match *state {
                    State::Closed { .. } => return Ok(Admission { breaker: self, is_try: false }),
                    State::Open { until, wait } => {
                        let after = until.saturating_duration_since(Instant::now());
                        if !after.is_zero() {
                            return Err(Error::Paused { peer: self.peer, after });
                        }
                        *state = State::Trying { wait };
                        return Ok(Admission { breaker: self, is_try: true });
                    }
                    State::Trying { .. } => {}
                }
            }
            settled.await;
        }
    }

    /// Takes in how a call ended.
    fn settle(&self, is_try: bool, health: Option<Health>) {
        let mut state = self.state();
        let before = *state;
        *state = match (before, health) {
            (State::Closed { .. }, Some(Health::Up)) => State::Closed { failures: 0 },
            (State::Closed { failures }, Some(Health::Down)) if failures + 1 < FAILURES => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, Some(Health::Down)) => self.leave_alone(FIRST_WAIT),
            (State::Trying { wait }, Some(Health::Down)) if is_try => self.leave_alone((wait * 2).min(LONGEST_WAIT)),
            (State::Trying { .. }, Some(Health::Up | Health::Unclear)) if is_try => {
                self.open.set(0);
                tracing::info!(peer = self.peer.as_str(), "{} answers again and is asked as before", self.peer);
                State::Closed { failures: 0 }
            }
            // The call was dropped: the next one tries.
            (State::Trying { wait }, None) if is_try => State::Open { until: Instant::now(), wait },
            // What began before says nothing new.
            _ => before,
        };
        drop(state);
        if is_try {
            self.settled.notify_waiters();
        }
    }

    fn leave_alone(&self, wait: Duration) -> State {
        let jittered = wait / 2 + (wait / 2).mul_f64(fastrand::f64());
        self.open.set(1);
        tracing::warn!(
            peer = self.peer.as_str(),
            pause_ms = u64::try_from(jittered.as_millis()).unwrap_or(u64::MAX),
            "{} failed several times in a row and is left alone for a while",
            self.peer
        );
        State::Open { until: Instant::now() + jittered, wait }
    }

    /// Every change is one assignment: a panic elsewhere leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// Says how the call ended.
    pub(super) fn report(mut self, health: Health) {
        self.breaker.settle(self.is_try, Some(health));
        self.is_try = false;
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_try {
            self.breaker.settle(true, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use tokio::time::{advance, sleep};

    fn breaker() -> Breaker {
        Breaker::new(Peer::Linxo, &Metrics::new())
    }

    async fn call(breaker: &Breaker, health: Health) {
        breaker.admit().await.unwrap().report(health);
    }

    async fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            call(breaker, Health::Down).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_only() {
        let breaker = breaker();
        fail(&breaker, 4).await;
        call(&breaker, Health::Up).await;
        fail(&breaker, 4).await;
        call(&breaker, Health::Unclear).await;
        assert_eq!(breaker.pause(), None);
        fail(&breaker, 1).await;
        let pause = breaker.pause().unwrap();
        assert!((FIRST_WAIT / 2..=FIRST_WAIT).contains(&pause), "{pause:?}");
        assert!(matches!(breaker.admit().await, Err(Error::Paused { .. })));
        assert_eq!(breaker.open.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_tries_and_the_others_wait_for_it() {
        let breaker = breaker();
        fail(&breaker, FAILURES).await;
        advance(FIRST_WAIT).await;
        let first = breaker.admit().await.unwrap();
        let others = join_all((0..5).map(|_| breaker.admit()));
        tokio::select! {
            _ = others => panic!("went on beside the try"),
            () = sleep(Duration::from_secs(9)) => {}
        }
        let ((), others) = tokio::join!(async { first.report(Health::Up) }, join_all((0..5).map(|_| breaker.admit())));
        assert!(others.iter().all(Result::is_ok));
        assert_eq!((breaker.pause(), breaker.open.get()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_longer_each_time_up_to_a_limit() {
        let breaker = breaker();
        fail(&breaker, FAILURES).await;
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            advance(LONGEST_WAIT).await;
            call(&breaker, Health::Down).await;
            longest = longest.max(breaker.pause().unwrap());
        }
        assert!(longest > LONGEST_WAIT / 2 && longest <= LONGEST_WAIT, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_was_dropped_lets_the_next_one_try() {
        let breaker = breaker();
        fail(&breaker, FAILURES).await;
        advance(FIRST_WAIT).await;
        drop(breaker.admit().await.unwrap());
        assert!(breaker.admit().await.unwrap().is_try);
    }
}
