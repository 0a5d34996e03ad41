//! One neighbour as those who call it see it: [`Trust`], with a clock and behind a lock.
//!
//! In: a call that somebody wants to make for a connection, and later how it ended. Out: whether it may be made now. What is
//! decided is decided by [`trust`](crate::trust). Nothing here waits, and nothing is logged: that is for whoever knows the
//! neighbour's name.

use crate::{
    clock::{self, Timestamp},
    sync::lock,
    trust::{Answer, CallId, Change, Ended, Kind, Leave, Moment, Own, Proof, Room, State, Trust, Verdict, Why},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// What is known of one neighbour, and which calls to it are under way.
pub struct Neighbour {
    start: Instant,
    known: Mutex<Known>,
    /// A call has ended, or a caller waits no longer.
    ended: Notify,
}

struct Known {
    trust: Trust,
    /// Tells calls under way that they are given up.
    given_up: HashMap<CallId, Arc<Notify>>,
}

/// What becomes of a call that somebody wants to make.
#[derive(Debug)]
pub enum Asked<'a> {
    /// It goes now.
    Go(Turn<'a>),
    /// It may go as soon as a call ends; ask again then, and at this time at the latest.
    Full {
        /// When.
        look_at: Instant,
    },
    /// Not before this time has passed. The caller waits without holding anything.
    Wait {
        /// How long.
        after: Duration,
        /// For what.
        why: Why,
    },
}

/// How a neighbour stands, for people: times are those of the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is called as usual.
    Well,
    /// It answers again, and is called more and more.
    Recovering,
    /// It asked for a rest until then.
    Resting(Timestamp),
    /// It failed for several connections, with no success between, since then; single calls try it.
    Down(Timestamp),
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Neighbour({:?})", self.state())
    }
}

impl Neighbour {
    /// A neighbour of which nothing is known yet. `dice`: see [`Trust::new`].
    #[must_use]
    pub fn new(dice: u64) -> Self {
        let known = Known { trust: Trust::new(dice), given_up: HashMap::new() };
        Self { start: Instant::now(), known: Mutex::new(known), ended: Notify::new() }
    }

    /// Whether a call may go now. `slots` is how many calls may be under way at once.
    pub fn ask(&self, who: &str, slots: usize) -> Asked<'_> {
        let now = self.now();
        let mut known = self.known();
        let key = known.trust.key(who);
        match known.trust.ask(key, slots, now) {
            Answer::Go(leave) => {
                let given_up = Arc::new(Notify::new());
                known.given_up.insert(leave.id(), Arc::clone(&given_up));
                Asked::Go(Turn { neighbour: self, leave: Some(leave), given_up })
            }
            Answer::Full { look_at } => Asked::Full { look_at: self.start + look_at.since(Moment::default()) },
            Answer::Wait { until, why } => Asked::Wait { after: until.since(now), why },
        }
    }

    /// Whether calls of this connection failed or hung lately.
    #[must_use]
    pub fn has_failed(&self, who: &str) -> bool {
        let now = self.now();
        let known = self.known();
        known.trust.has_failed(known.trust.key(who), now)
    }

    /// For how long no work need be taken up, and how much of it may be taken up else.
    #[must_use]
    pub fn room(&self) -> (Option<Duration>, usize) {
        let now = self.now();
        match self.known().trust.room(now) {
            Room::Until(until) => (Some(until.since(now)), 0),
            Room::AtMost(most) => (None, most),
        }
    }

    /// A caller begins to wait for a slot. Fresh calls that wait go before those of connections that failed.
    #[must_use]
    pub fn begin_waiting(&self) -> Waiting<'_> {
        self.known().trust.begin_waiting();
        Waiting(self)
    }

    /// Resolves when a call has ended since this was called. Make it before [`ask`](Self::ask), so that no end is missed.
    pub fn call_ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.notified()
    }

    /// How many calls are under way, and how many callers wait.
    #[must_use]
    pub fn busy(&self) -> (usize, usize) {
        let known = self.known();
        (known.trust.under_way(), known.trust.waiting())
    }

    /// Gives up calls that hang, as far as they hold more than their share of `slots`, because so much other work waits.
    pub fn make_room(&self, slots: usize, waits: usize) {
        let now = self.now();
        let mut known = self.known();
        for id in known.trust.overdue(slots, waits, now) {
            if let Some(given_up) = known.given_up.get(&id) {
                given_up.notify_one();
            }
        }
    }

    /// The work of a connection succeeded as a whole. Returns whether refusals were its own trouble until now.
    pub fn succeeded(&self, who: &str) -> bool {
        let mut known = self.known();
        let refused = known.trust.refuses();
        let key = known.trust.key(who);
        known.trust.succeeded(key);
        refused
    }

    /// The work of a connection was refused: whether that is believed.
    pub fn refused(&self, who: &str, kind: Kind, own: Own, proof: Proof) -> Verdict {
        let now = self.now();
        let mut known = self.known();
        let key = known.trust.key(who);
        known.trust.refused(key, kind, own, proof, now)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        let now = self.now();
        self.known().trust.state(now)
    }

    /// How it stands, for people.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (wall, now) = (clock::now(), self.now());
        match self.state() {
            State::Well => Standing::Well,
            State::Recovering { .. } => Standing::Recovering,
            State::Resting { until } => Standing::Resting(wall.after(until.since(now))),
            State::Down { since, .. } => Standing::Down(wall.before(now.since(since))),
        }
    }

    /// Whether it is left alone, because it failed or asked for a rest.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        matches!(self.state(), State::Down { .. } | State::Resting { .. })
    }

    /// Since when every call has failed, or was refused for several connections, by the clock of the wall; `None` while calls
    /// succeed. It differs by a moment each time, because it is worked out from the time that has passed.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        let now = self.now();
        let since = self.known().trust.failing_since()?;
        Some(clock::now().before(now.since(since)))
    }

    /// Nothing waits for it any more ([`Trust::nothing_waits`]).
    pub fn nothing_waits(&self) {
        self.known().trust.nothing_waits();
    }

    /// The time by which everything here is measured.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::new(self.start.elapsed())
    }

    fn end(&self, leave: Leave, ended: Ended) -> Option<Change> {
        let now = self.now();
        let mut known = self.known();
        known.given_up.remove(&leave.id());
        let change = known.trust.end(leave, ended, now);
        drop(known);
        self.ended.notify_one();
        change
    }

    /// Every change is one call of the model: a panic elsewhere leaves nothing half done.
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

/// A caller that waits for a slot, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Neighbour);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.known().trust.end_waiting();
        // The next one may have been told that there is no slot because of this one.
        self.0.ended.notify_one();
    }
}

/// Leave to make one call, until it is dropped. Dropped without [`end`](Self::end), it says nothing about the neighbour.
#[derive(Debug)]
#[must_use = "a call that is not told how it ended teaches nothing"]
pub struct Turn<'a> {
    neighbour: &'a Neighbour,
    leave: Option<Leave>,
    given_up: Arc<Notify>,
}

impl Turn<'_> {
    /// The call holds its slot and does not begin before [`begins`](Self::begins), because the caller waits for something else.
    pub fn holds(&self) {
        if let Some(leave) = &self.leave {
            self.neighbour.known().trust.holds(leave);
        }
    }

    /// The call begins now.
    pub fn begins(&mut self) {
        if let Some(leave) = &mut self.leave {
            self.neighbour.known().trust.begins(leave, self.neighbour.now());
        }
    }

    /// Resolves when the call is to be given up, because it hangs and others wait.
    pub async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Takes in how the call ended; returns what that changed for the neighbour as a whole.
    #[expect(clippy::must_use_candidate, reason = "to most callers it makes no difference")]
    pub fn end(mut self, ended: Ended) -> Option<Change> {
        self.leave.take().and_then(|leave| self.neighbour.end(leave, ended))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.neighbour.end(leave, Ended::Dropped);
        }
    }
}
