//! Leaves a server alone that fails, or that asks for it. After [`FAILURES`] in a row nothing is asked for a while; then one
//! call tries whether the server is back. After an answer with `Retry-After` nothing is asked before that time.
//!
//! In: how each call ended. Out: whether the next call may be made. Only failures of the server count (no answer, or 5xx); a
//! refusal concerns one user and shows that the server works. While one call tries, the others wait for the end of that call
//! instead of failing, so that a server that is back gets its work at once. Each server has a breaker of its own: a token
//! server that works says nothing about the API.

use crate::error::{Error, Peer};
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
pub(crate) enum Health {
    /// It answered.
    Up,
    /// It did not, or said that it failed.
    Down,
    /// An answer that might come from anybody.
    Unclear,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    peer: Peer,
    state: Mutex<State>,
    /// A try has ended.
    settled: Notify,
    open: Gauge,
}

#[derive(Debug)]
struct State {
    circuit: Circuit,
    /// What the server asked for.
    not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Circuit {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration },
    Trying { wait: Duration },
}

/// Leave to make one call. Its end is told by [`report`](Self::report); dropped without that, nothing is known of the end.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    is_try: bool,
}

impl Breaker {
    /// A breaker that is closed. `open` is its figure: 1 while nothing is asked, else 0.
    pub(crate) fn new(peer: Peer, open: Gauge) -> Self {
        open.set(0);
        let state = State { circuit: Circuit::Closed { failures: 0 }, not_before: None };
        Self { peer, state: Mutex::new(state), settled: Notify::new(), open }
    }

    /// For how much longer nothing is asked.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.look(&self.state()).map(|(after, _)| after)
    }

    /// Fails while nothing is asked.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.look(&self.state()).map_or(Ok(()), |rest| Err(self.paused(rest)))
    }

    /// Leave to make a call; waits while another call tries.
    ///
    /// # Errors
    /// [`Error::Paused`].
    pub(crate) async fn admit(&self) -> Result<Admission<'_>, Error> {
        loop {
            // Made before the look, so that no end of a try is missed.
            let settled = self.settled.notified();
            {
                let mut state = self.state();
                if let Some(rest) = self.look(&state) {
                    return Err(self.paused(rest));
                }
                match state.circuit {
                    Circuit::Closed { .. } => return Ok(Admission { breaker: self, is_try: false }),
                    Circuit::Open { wait, .. } => {
                        state.circuit = Circuit::Trying { wait };
                        return Ok(Admission { breaker: self, is_try: true });
                    }
                    Circuit::Trying { .. } => {}
                }
            }
            settled.await;
        }
    }

    /// Takes in that the server asked for a rest.
    pub(crate) fn rest(&self, asked: Duration) {
        if asked.is_zero() {
            return;
        }
        let mut state = self.state();
        let now = Instant::now();
        if state.not_before.is_none_or(|before| before <= now) {
            tracing::warn!(
                peer = self.peer.as_str(),
                pause_ms = millis(asked),
                "{} asked for a rest (Retry-After) and is left alone for that long",
                self.peer
            );
        }
        state.not_before = state.not_before.max(Some(now + asked));
        self.look(&state);
    }

    /// For how much longer nothing is asked, and why; sets the figure.
    fn look(&self, state: &State) -> Option<(Duration, &'static str)> {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let failed = match state.circuit {
            Circuit::Open { until, .. } => left(until),
            Circuit::Closed { .. } | Circuit::Trying { .. } => Duration::ZERO,
        };
        let asked = state.not_before.map_or(Duration::ZERO, left);
        let is_closed = matches!(state.circuit, Circuit::Closed { .. });
        self.open.set(i64::from(!is_closed || !asked.is_zero()));
        let rest = if asked > failed { (asked, "asked for a rest") } else { (failed, "failed several times in a row") };
        Some(rest).filter(|(left, _)| !left.is_zero())
    }

    fn paused(&self, (after, why): (Duration, &'static str)) -> Error {
        Error::Paused { peer: self.peer, after, why }
    }

    /// Takes in how a call ended.
    fn settle(&self, is_try: bool, health: Option<Health>) {
        let mut state = self.state();
        let before = state.circuit;
        state.circuit = match (before, health) {
            (Circuit::Closed { .. }, Some(Health::Up)) => Circuit::Closed { failures: 0 },
            (Circuit::Closed { failures }, Some(Health::Down)) if failures + 1 < FAILURES => {
                Circuit::Closed { failures: failures + 1 }
            }
            (Circuit::Closed { .. }, Some(Health::Down)) => self.leave_alone(FIRST_WAIT),
            (Circuit::Trying { wait }, Some(Health::Down)) if is_try => self.leave_alone((wait * 2).min(LONGEST_WAIT)),
            (Circuit::Trying { .. }, Some(Health::Up | Health::Unclear)) if is_try => {
                tracing::info!(peer = self.peer.as_str(), "{} answers again and is asked as before", self.peer);
                Circuit::Closed { failures: 0 }
            }
            // The call was dropped: the next one tries.
            (Circuit::Trying { wait }, None) if is_try => Circuit::Open { until: Instant::now(), wait },
            // A call that began before the breaker opened says nothing new.
            _ => before,
        };
        self.look(&state);
        drop(state);
        if is_try {
            self.settled.notify_waiters();
        }
    }

    fn leave_alone(&self, wait: Duration) -> Circuit {
        let jittered = wait / 2 + (wait / 2).mul_f64(fastrand::f64());
        tracing::warn!(
            peer = self.peer.as_str(),
            pause_ms = millis(jittered),
            "{} failed several times in a row and is left alone for a while",
            self.peer
        );
        Circuit::Open { until: Instant::now() + jittered, wait }
    }

    /// Every change is one assignment: a panic elsewhere leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole milliseconds, for a log field.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Admission<'_> {
    /// Says how the call ended.
    pub(crate) fn report(mut self, health: Health) {
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
        Breaker::new(Peer::Linxo, Gauge::default())
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

    #[tokio::test(start_paused = true)]
    async fn a_rest_that_is_asked_for_holds_for_everybody_to_the_moment() {
        let breaker = breaker();
        let early = breaker.admit().await.unwrap();
        breaker.rest(Duration::from_secs(30));
        breaker.rest(Duration::from_secs(7));
        early.report(Health::Up);
        assert_eq!((breaker.pause(), breaker.open.get()), (Some(Duration::from_secs(30)), 1));
        let Err(Error::Paused { why, .. }) = breaker.admit().await else { panic!("admitted") };
        assert_eq!(why, "asked for a rest");
        advance(Duration::from_millis(29_999)).await;
        assert!(breaker.check().is_err());
        advance(Duration::from_millis(1)).await;
        assert_eq!((breaker.pause(), breaker.open.get()), (None, 0));
        call(&breaker, Health::Up).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_waits_for_the_longer_of_both_rests() {
        let breaker = breaker();
        breaker.rest(Duration::from_secs(5));
        breaker.rest(Duration::ZERO);
        assert_eq!(breaker.pause(), Some(Duration::from_secs(5)));
        advance(Duration::from_secs(5)).await;
        fail(&breaker, FAILURES).await;
        breaker.rest(Duration::from_secs(3));
        advance(FIRST_WAIT).await;
        assert_eq!((breaker.pause(), breaker.open.get()), (Some(Duration::from_secs(2)), 1));
        advance(Duration::from_secs(2)).await;
        assert!(breaker.admit().await.unwrap().is_try);
    }
}
