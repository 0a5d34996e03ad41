//! How far a neighbour is trusted: a server of others that calls go to on behalf of many bank connections.
//!
//! One [`Trust`] stands for one neighbour: the Linxo API, its token server, an endpoint of the integrator's, a sink. In: who
//! wants to call, how calls ended, and the time. Out: whether a call may go now, or until when it waits and why; and whether
//! a refusal is believed. There is no I/O, no clock and no chance in here, so that a test can play hours in a moment.
//!
//! The rule behind all of it: **one connection's trouble is not the neighbour's, and a first word is not the last.**
//!
//! | file | what it decides |
//! | --- | --- |
//! | `moment` | time that only goes forward |
//! | `known` | what is remembered of each connection, within a bound |
//! | `belief` | when a refusal counts as meant |
//! | `rest` | who rests after `Retry-After`: the connection, or the whole neighbour |
//! | `breaker` | when the neighbour counts as down, who tries it, and how calls come back |
//! | `slots` | which calls are under way, and which of them hang |
//! | `turns` | who of the failed ones goes next |
//! | `resumption` | how what was parked goes back in line |
//!
//! Promises, each held by the tests in `tests`:
//! - Whatever other connections do, a good connection is served within a bound: two seconds beside forty connections that
//!   fail and twenty that hang, with sixteen slots and answers within a twentieth of a second.
//! - Whoever failed is tried again within a bound.
//! - Nothing is believed on less evidence than [`Proof`] says.
//! - Memory is bounded: connections are kept as hashes, and the least recently used ones are forgotten.
//!
//! Why not a breaker that counts failures in a row, as most libraries have: forty failing connections beside five good ones
//! keep such a breaker open for good, and then the five are never served.

mod belief;
mod breaker;
mod key;
mod known;
mod moment;
mod rest;
mod resumption;
mod slots;
#[cfg(test)]
mod tests;
mod turns;

pub use belief::{Kind, Own, Proof, Verdict, Whose};
pub use key::Key;
pub use moment::Moment;
pub use resumption::{RESUME_AGAIN_AFTER, Resumption};
pub use slots::{CallId, Leave};

use belief::Refusing;
use breaker::{Breaker, Circuit};
use known::{Failing, Known};
use rest::Rests;
use slots::{Record, Slots};
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use turns::Turns;

/// What is known of one neighbour.
#[derive(Debug)]
pub struct Trust {
    hasher: RandomState,
    known: Known,
    refusing: Refusing,
    rests: Rests,
    breaker: Breaker,
    slots: Slots,
    /// Of connections that failed quickly.
    turns: Turns,
    /// Of connections that hung.
    turns_of_hung: Turns,
    failing_since: Option<Moment>,
}

/// What becomes of a call that somebody wants to make.
#[derive(Debug)]
pub enum Answer {
    /// It goes now. Its end is told by [`Trust::end`].
    Go(Leave),
    /// It may go as soon as a slot is free: ask again when a call ends, and at this time at the latest. Until then the caller
    /// counts as waiting: see [`Trust::begin_waiting`].
    Full {
        /// When to ask again at the latest.
        look_at: Moment,
    },
    /// Not before this time. The caller waits without holding anything.
    Wait {
        /// When to ask again.
        until: Moment,
        /// What it waits for.
        why: Why,
    },
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The neighbour asked this connection for a rest.
    ConnectionRests,
    /// The neighbour asked several connections for a rest.
    NeighbourRests,
    /// Several connections in a row failed: the neighbour is left alone.
    Down,
    /// Calls of this connection failed or hung. Others of the same kind hold all slots that such calls may have.
    Share,
}

impl fmt::Display for Why {
    /// Continues the name of the neighbour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectionRests => "asked for a rest for this connection",
            Self::NeighbourRests => "asked for a rest",
            Self::Down => "failed for several connections in a row",
            Self::Share => "failed for this connection, and calls of other connections go first",
        })
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With what was asked for.
    Good,
    /// With a refusal that concerns what was asked (most of 4xx): the neighbour itself works.
    Refused,
    /// With no answer, half of one, or one that says that the neighbour failed (5xx).
    Failed,
    /// With an answer that might come from anybody, as a page of HTML.
    Unclear,
    /// With the wish to be asked later (429, or 503 with `Retry-After`).
    Rest {
        /// For how long.
        asked: Duration,
        /// Whether it is a failure as well (503).
        failed: bool,
    },
    /// The caller gave up, for reasons of its own.
    Dropped,
}

/// What the end of a call changed for the neighbour as a whole, for a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It counts as down from now on.
    Down,
    /// It answers again.
    Up,
    /// It rests for this long.
    Rests(Duration),
    /// This call's connection rests for this long.
    ConnectionRests(Duration),
}

/// How a neighbour stands, for metrics and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is called as usual.
    Well,
    /// It answers again; calls come back step by step.
    Recovering {
        /// Since when.
        since: Moment,
    },
    /// It asked for a rest.
    Resting {
        /// Until when.
        until: Moment,
    },
    /// It counts as down.
    Down {
        /// Since when.
        since: Moment,
        /// When a connection that failed may try again.
        until: Moment,
    },
}

/// How much work it is worth taking up now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// None before this time: all of it would have to wait.
    Until(Moment),
    /// So many at most.
    AtMost(usize),
}

impl Trust {
    /// A neighbour of which nothing is known yet. `dice` is a random number: neighbours with other numbers are tried again at
    /// other times. The same number gives the same decisions.
    #[must_use]
    pub fn new(dice: u64) -> Self {
        Self {
            hasher: RandomState::new(),
            known: Known::default(),
            refusing: Refusing::default(),
            rests: Rests::default(),
            breaker: Breaker::new(dice),
            slots: Slots::default(),
            turns: Turns::default(),
            turns_of_hung: Turns::default(),
            failing_since: None,
        }
    }

    /// What stands for a connection in here.
    #[must_use]
    pub fn key(&self, connection: &str) -> Key {
        Key::new(self.hasher.hash_one(connection))
    }

    /// Whether a call may go now. `slots` is how many calls may be under way at once.
    pub fn ask(&mut self, who: Key, slots: usize, now: Moment) -> Answer {
        if let Some(until) = self.rests.of_all(now) {
            return Answer::Wait { until, why: Why::NeighbourRests };
        }
        if let Some(until) = self.known.rests_until(who, now) {
            return Answer::Wait { until, why: Why::ConnectionRests };
        }
        match self.known.failing(who, now) {
            None => self.ask_fresh(who, slots.max(1), now),
            Some(failing) => self.ask_again(who, failing, slots.max(1), now),
        }
    }

    /// A call of a connection that has not failed lately.
    fn ask_fresh(&mut self, who: Key, slots: usize, now: Moment) -> Answer {
        if let Some(until) = self.breaker.down_for_fresh(now) {
            return Answer::Wait { until, why: Why::Down };
        }
        let is_trial = self.breaker.is_down();
        let limit = self.breaker.limit(now);
        let under_way = self.slots.under_way();
        // To tell brisk calls from others is worth a look at each only where they can be too many.
        if under_way >= slots || (!is_trial && under_way >= limit && self.slots.brisk(now) >= limit) {
            return Answer::Full { look_at: now.after(slots::LOOK_EVERY) };
        }
        if let Some(look_at) = self.breaker.spacing(now) {
            return Answer::Full { look_at };
        }
        self.breaker.fresh_goes(now);
        Answer::Go(self.slots.enter(who, Record::Clean, now))
    }

    /// A call of a connection that failed or hung lately.
    fn ask_again(&mut self, who: Key, failing: Failing, slots: usize, now: Moment) -> Answer {
        let record = if failing.hung { Record::Hung } else { Record::Failed };
        let is_full = self.slots.under_way().saturating_add(self.slots.waiting()) >= slots;
        if self.breaker.is_down() {
            if let Some(until) = self.breaker.down_for_failed(who, now) {
                return Answer::Wait { until, why: Why::Down };
            }
            if !is_full {
                self.breaker.failed_goes(who, now);
                self.leave_turns(who);
                return Answer::Go(self.slots.enter(who, record, now));
            }
        }
        let share = slots::share(slots, failing.hung);
        let held = if failing.hung { self.slots.hanging(now) } else { self.slots.bad(now) };
        let all = slots::share(slots, false).min(self.breaker.limit(now) / 2);
        let free = share.saturating_sub(held).min(all.saturating_sub(self.slots.bad(now)));
        let turns = if failing.hung { &mut self.turns_of_hung } else { &mut self.turns };
        if !is_full && turns.may_go(who, free, now) {
            self.leave_turns(who);
            return Answer::Go(self.slots.enter(who, record, now));
        }
        Answer::Wait { until: turns.book(who, failing.took, share, now), why: Why::Share }
    }

    fn leave_turns(&mut self, who: Key) {
        self.turns.leave(who);
        self.turns_of_hung.leave(who);
    }

    /// The caller was told [`Answer::Full`] and waits for a slot from now on.
    pub const fn begin_waiting(&mut self) {
        self.slots.begin_waiting();
    }

    /// A caller waits no longer, whether it got a slot or gave up.
    pub const fn end_waiting(&mut self) {
        self.slots.end_waiting();
    }

    /// The call holds its slot and does not begin yet, because the caller has something else to wait for. Until
    /// [`begins`](Self::begins) it does not count as hanging.
    pub fn holds(&mut self, leave: &Leave) {
        self.slots.begins(leave.id, None);
    }

    /// The call begins now.
    pub fn begins(&mut self, leave: &mut Leave, now: Moment) {
        leave.since = now;
        self.slots.begins(leave.id, Some(now));
    }

    /// Whether calls of this connection failed or hung lately.
    #[must_use]
    pub fn has_failed(&self, who: Key, now: Moment) -> bool {
        self.known.failing(who, now).is_some()
    }

    /// Takes in how a call ended.
    #[expect(clippy::needless_pass_by_value, reason = "a call ends once: its leave cannot be used again")]
    pub fn end(&mut self, leave: Leave, ended: Ended, now: Moment) -> Option<Change> {
        let Leave { id, who, since } = leave;
        let took = now.since(since);
        let hung = self.slots.leave(id, now);
        match ended {
            Ended::Dropped | Ended::Unclear => None,
            Ended::Good => {
                self.slots.took(took);
                self.known.forgive(who);
                self.failing_since = None;
                self.works(since, now)
            }
            Ended::Refused => self.works(since, now),
            Ended::Failed => {
                self.known.fails(who, Failing { at: now, took, hung });
                self.fails(who, now)
            }
            Ended::Rest { asked, failed } => {
                self.known.fails(who, Failing { at: now, took, hung });
                let changed = if failed { self.fails(who, now) } else { self.breaker.works(now).then_some(Change::Up) };
                self.rest(who, asked, now).or(changed)
            }
        }
    }

    /// A sign of life, which a refusal is too.
    fn works(&mut self, started: Moment, now: Moment) -> Option<Change> {
        self.rests.works(started);
        self.breaker.works(now).then_some(Change::Up)
    }

    fn fails(&mut self, who: Key, now: Moment) -> Option<Change> {
        self.failing_since = self.failing_since.or(Some(now));
        self.breaker.fails(who, now).then_some(Change::Down)
    }

    fn rest(&mut self, who: Key, asked: Duration, now: Moment) -> Option<Change> {
        if asked.is_zero() {
            return None;
        }
        let until = now.after(asked);
        self.known.rest(who, until);
        let was_resting = self.rests.of_all(now).is_some();
        match self.rests.asked(who, until, now) {
            Some(until) => {
                self.breaker.come_back_at(until);
                (!was_resting).then_some(Change::Rests(until.since(now)))
            }
            None => Some(Change::ConnectionRests(asked)),
        }
    }

    /// The work for which calls were made succeeded as a whole: a list was read to its end, a delivery was taken. What was
    /// held against the connection is forgotten.
    pub fn succeeded(&mut self, who: Key) {
        self.known.forget(who);
        self.leave_turns(who);
        self.refusing.clear();
    }

    /// Work was refused. Says whether that is believed; [`Verdict::park`] says whether this work ends with it.
    pub fn refused(&mut self, who: Key, kind: Kind, own: Own, proof: Proof, now: Moment) -> Verdict {
        self.refusing.add(who, now);
        let is_believed = self.known.refused(who, kind, own, proof, now);
        let whose = self.refusing.whose();
        Verdict { is_believed, park: is_believed && own.tries >= proof.tries, whose }
    }

    /// Whether it refused connections since work last succeeded, and that counts as its own trouble.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.refusing.is_as_a_whole()
    }

    /// The calls that are to be given up now, because work that has not failed finds no room: the oldest ones that hang, as
    /// far as such calls hold more than their share of `slots`. `waits` is how much work waits for room. A call that is
    /// given up ends with [`Ended::Failed`].
    pub fn overdue(&mut self, slots: usize, waits: usize, now: Moment) -> Vec<CallId> {
        self.slots.overdue(slots, waits, now)
    }

    /// How many callers wait for a slot.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.slots.waiting()
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.slots.under_way()
    }

    /// How much work it is worth taking up now.
    #[must_use]
    pub fn room(&self, now: Moment) -> Room {
        if let Some(until) = self.rests.of_all(now) {
            return Room::Until(until);
        }
        if !self.breaker.is_down() {
            return Room::AtMost(self.breaker.limit(now));
        }
        self.breaker.down_for_everybody(now).map_or(Room::AtMost(1), Room::Until)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self, now: Moment) -> State {
        if let Some(until) = self.rests.of_all(now) {
            return State::Resting { until };
        }
        match self.breaker.circuit() {
            Circuit::Down { since, until, .. } => State::Down { since, until },
            Circuit::Back { since } if self.breaker.limit(now) < usize::MAX => State::Recovering { since },
            Circuit::Back { .. } | Circuit::Up => State::Well,
        }
    }

    /// Nothing waits for the neighbour any more: somebody else's calls succeeded, say, or the work was given up. So nothing fails.
    pub const fn nothing_waits(&mut self) {
        self.failing_since = None;
        self.refusing.forget_since();
    }

    /// Since when every call failed, or was refused for several connections; `None` while calls succeed, and before the first call.
    #[must_use]
    pub fn failing_since(&self) -> Option<Moment> {
        self.failing_since.into_iter().chain(self.refusing.as_a_whole_since()).min()
    }
}
