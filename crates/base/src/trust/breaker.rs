//! Whether the neighbour counts as down.
//!
//! ```text
//!        several connections failed over some time,
//!        and nothing succeeded between
//!   Up ──────────────────────────────────────────────► Down
//!    ▲                                                  │ one call tries; it gets an answer
//!    └──────────────── Back: more calls every moment ◄──┘
//! ```
//!
//! While it is down, a connection that has not failed lately tries it, one at a time and a moment apart. So a connection for
//! which the neighbour works is served soon, and that brings the neighbour back for all. Where only connections that failed
//! are left, they try in turns, with waits that grow.

use super::{Key, Moment};
use std::{collections::HashSet, time::Duration};

/// Connections that failed, with no success between,
const SEVERAL: usize = 5;
/// over at least this long: then the neighbour counts as down.
const LASTING: Duration = Duration::from_secs(3);
/// From this many on, further connections go only so far apart, until something succeeds.
const MANY: usize = 16;
const APART: Duration = Duration::from_millis(10);
/// Connections that are counted.
const MOST_COUNTED: usize = 1024;
/// Between two tries by connections that failed: the first wait; doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Between two tries by connections that have not failed: the first wait; doubles each time.
const FIRST_FRESH_WAIT: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST_FRESH_WAIT: Duration = Duration::from_secs(2);
/// While calls come back, twice as many go after each such time.
const STEP: Duration = Duration::from_millis(250);
/// Steps after which there is no limit any more: more than a thousand calls.
const STEPS: u32 = 10;
/// Down again within this time, the waits go on where they were.
const RELAPSE: Duration = Duration::from_mins(1);

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Circuit {
    /// Called as usual.
    Up,
    /// Called more and more since then.
    Back { since: Moment },
    /// Left alone.
    Down {
        since: Moment,
        /// When a connection that failed tries.
        until: Moment,
        /// When one tries that has not failed.
        fresh_at: Moment,
        fresh_wait: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    circuit: Circuit,
    /// The connections that failed since the last sign of life.
    failed: HashSet<Key>,
    /// When the first of them failed.
    first_failure: Option<Moment>,
    /// The next wait of connections that failed.
    wait: Duration,
    /// Which of them tried last.
    last_try: Option<Key>,
    /// When the next fresh call may go, while many connections fail.
    next_fresh: Moment,
    dice: u64,
}

impl Breaker {
    pub(super) fn new(dice: u64) -> Self {
        Self {
            circuit: Circuit::Up,
            failed: HashSet::new(),
            first_failure: None,
            wait: FIRST_WAIT,
            last_try: None,
            next_fresh: Moment::default(),
            dice,
        }
    }

    pub(super) const fn circuit(&self) -> Circuit {
        self.circuit
    }

    pub(super) const fn is_down(&self) -> bool {
        matches!(self.circuit, Circuit::Down { .. })
    }

    /// How many calls may go at once.
    pub(super) fn limit(&self, now: Moment) -> usize {
        match self.circuit {
            Circuit::Up => usize::MAX,
            Circuit::Down { .. } => 1,
            Circuit::Back { since } => {
                let steps = now.since(since).as_millis() / STEP.as_millis();
                u32::try_from(steps).ok().filter(|steps| *steps < STEPS).map_or(usize::MAX, |steps| 1 << steps)
            }
        }
    }

    /// Until when a connection that has not failed waits, because the neighbour is down.
    pub(super) fn down_for_fresh(&self, now: Moment) -> Option<Moment> {
        match self.circuit {
            Circuit::Down { fresh_at, .. } => Some(fresh_at).filter(|at| *at > now),
            _ => None,
        }
    }

    /// Until when a connection that failed waits. The one that tried last leaves the next try to another one.
    pub(super) fn down_for_failed(&mut self, who: Key, now: Moment) -> Option<Moment> {
        let Circuit::Down { until, .. } = self.circuit else { return None };
        let own = if self.last_try == Some(who) { until.after(FIRST_WAIT) } else { until };
        // A little later, each at another time, so that they do not come all at once.
        (own > now).then(|| own.after(self.jitter(FIRST_WAIT)))
    }

    /// Until when nobody may try.
    pub(super) fn down_for_everybody(&self, now: Moment) -> Option<Moment> {
        match self.circuit {
            Circuit::Down { until, fresh_at, .. } => Some(until.min(fresh_at)).filter(|at| *at > now),
            _ => None,
        }
    }

    /// When a fresh call may go, while many connections fail and nothing succeeds.
    pub(super) fn spacing(&self, now: Moment) -> Option<Moment> {
        (self.failed.len() >= MANY && !self.is_down()).then_some(self.next_fresh).filter(|at| *at > now)
    }

    /// A fresh call goes.
    pub(super) fn fresh_goes(&mut self, now: Moment) {
        self.next_fresh = now.after(APART);
        if let Circuit::Down { fresh_at, fresh_wait, .. } = &mut self.circuit {
            *fresh_at = now.after(*fresh_wait);
            *fresh_wait = fresh_wait.saturating_mul(2).min(LONGEST_FRESH_WAIT);
        }
    }

    /// A call of a connection that failed tries.
    pub(super) fn failed_goes(&mut self, who: Key, now: Moment) {
        self.last_try = Some(who);
        let at = self.next_try(now);
        if let Circuit::Down { until, .. } = &mut self.circuit {
            *until = at;
        }
    }

    /// A call failed; returns whether the neighbour is down since then.
    pub(super) fn fails(&mut self, who: Key, now: Moment) -> bool {
        if self.failed.len() < MOST_COUNTED {
            self.failed.insert(who);
        }
        let first = *self.first_failure.get_or_insert(now);
        if self.is_down() || self.failed.len() < SEVERAL || now.since(first) < LASTING {
            return false;
        }
        match self.circuit {
            Circuit::Back { since } if now.since(since) < RELAPSE => {}
            _ => self.wait = FIRST_WAIT,
        }
        let until = self.next_try(now);
        self.circuit =
            Circuit::Down { since: now, until, fresh_at: now.after(FIRST_FRESH_WAIT), fresh_wait: FIRST_FRESH_WAIT };
        true
    }

    /// A sign of life; returns whether the neighbour was down.
    pub(super) fn works(&mut self, now: Moment) -> bool {
        self.failed.clear();
        self.first_failure = None;
        self.last_try = None;
        let was_down = self.is_down();
        if was_down {
            self.circuit = Circuit::Back { since: now };
        }
        was_down
    }

    /// After a rest calls come back step by step.
    pub(super) fn come_back_at(&mut self, at: Moment) {
        if !self.is_down() {
            self.circuit = Circuit::Back { since: at };
        }
    }

    fn next_try(&mut self, now: Moment) -> Moment {
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        now.after(wait / 2 + self.jitter(wait / 2))
    }

    /// Up to `most`: the next number of a generator, so that equal dice give equal times.
    fn jitter(&mut self, most: Duration) -> Duration {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis((self.dice >> 33) % millis)
    }
}
