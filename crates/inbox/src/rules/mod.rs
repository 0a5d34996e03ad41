//! What happens to work, as pure functions: what an outcome does to a stage, to the line that the stage stands in, and to
//! the other stages of its entry. No I/O and no clock. Every back end loads a [`Progress`], applies a rule, and stores it.
//!
//! ```text
//!            first in line, needs met             claim
//!   Queued ────────────────────────────► Due ──────────────► Leased
//!     ▲                                   ▲                     │ settle
//!     │ requeue (replay), resume          │ stand               ├── Retry, Postpone, GiveBack ──► Queued, then Due if first
//!     └── Done, Parked                    └─────────────────────┤
//!                                                               └── Done, Parked: leaves the line, the next moves up
//! ```
//!
//! A **line** is what one connection has to do at one stage, in the order of places. Queued, due and leased stages stand in
//! it; done and parked ones have left it. At a sink that keeps strict order ([`Order::Strict`]) a parked stage still holds up those
//! behind it. Promises, held by the model in `model`:
//! - A stage is made due only when nothing before it holds up its line and everything that it needs is done.
//! - A stage that nothing before it holds up, and whose needs are done, is due or leased: nothing waits for ever.
//! - A stage is parked with a cause and a reason.

pub mod merging;
mod order;
mod standing;

pub use order::Order;
pub(crate) use order::frees;
pub use standing::Standing;

use crate::{Cause, Doubts, Fetch, Outcome, SinkName, Stage, State, Token};
use base::clock::Timestamp;
use event::{Drift, Event, Shape};
use std::time::Duration;

/// After this many leases in a row that ended without a word, an entry is parked: it may be what ends the process.
pub const MOST_LOSSES: u32 = 10;
/// Attempts that are remembered of each stage.
pub const ATTEMPTS_KEPT: u32 = 20;

/// No pause between two tries is longer: an hour is the most that a server may ask for, and a backoff comes on top. A due time that
/// lies further ahead was written before the clock was set back, and has come.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(90);

/// Why a delivery is parked when what it needs is.
const NEEDS_PARKED: &str = "its accounts could not be fetched: see the completion";
/// Why a fetch ended without anything.
const GONE: &str = "the API does not know the connection any more";
/// Why a delivery was not made.
const SUPERSEDED: &str = "not delivered (stale = \"drop\"): what was delivered of this connection and channel is newer";

/// Why nothing was fetched.
const UNNEEDED: &str = "not fetched: the filter of every sink leaves this event out";

/// Everything that changes of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub standing: Standing,
    /// Due: not before this. Leased: the end of the lease.
    pub due: Timestamp,
    /// How often it was leased since it was last put in line.
    pub attempts: u32,
    /// Leases in a row that ended without a word.
    pub losses: u32,
    /// Who holds it, while it is leased.
    pub token: Option<Token>,
    /// When the first of an unbroken run of failures happened.
    pub failing_since: Option<Timestamp>,
    /// The run of failures that were an answer.
    pub doubts: Doubts,
    /// Last change.
    pub changed: Timestamp,
    /// Why it is parked.
    pub cause: Option<Cause>,
    /// Why it waits or is parked, in one sentence.
    pub reason: Option<String>,
    /// When it last went back in line by itself.
    pub resumed: Option<Timestamp>,
}

/// What an event needs done before it can be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Delivered as it came.
    Deliver,
    /// These are fetched first.
    Fetch(&'static [Fetch]),
    /// Nobody can tell what to fetch: parked from the beginning, with this reason.
    Park(String),
}

/// What an event needs. A hint (`confirm`) is fetched whatever it claims.
#[must_use]
pub fn plan(event: &Event, confirm: bool) -> Plan {
    match (&event.shape, &event.drift) {
        (Shape::Unclear, Some(drift @ Drift::TooLong { .. })) => Plan::Park(format!(
            "no user has such an id ({drift}), so nobody can say whose event this is: ask the vendor about it"
        )),
        _ if confirm => Plan::Fetch(&[Fetch::Accounts]),
        (Shape::Whole, _) => Plan::Deliver,
        (Shape::Truncated { .. }, _) => Plan::Fetch(&[Fetch::Accounts]),
        (Shape::Unclear, drift) => {
            let what = drift.as_ref().map(ToString::to_string).unwrap_or_default();
            Plan::Park(format!(
                "the event leaves its accounts out and cannot be understood ({what}): a newer version may know this form; then replay it"
            ))
        }
    }
}

impl Plan {
    /// The fetches of an entry, each with how it begins.
    pub fn fetches(&self, now: Timestamp) -> impl Iterator<Item = (Fetch, Progress)> + '_ {
        let (fetches, parked) = match self {
            Self::Deliver => (&[][..], None),
            Self::Fetch(fetches) => (*fetches, None),
            Self::Park(reason) => (&[Fetch::Accounts][..], Some(reason)),
        };
        fetches.iter().map(move |fetch| {
            let progress = parked
                .map_or_else(|| Progress::queued(now), |reason| Progress::parked(Cause::Unclear, reason.clone(), now));
            (*fetch, progress)
        })
    }

    /// How a delivery of the entry begins.
    #[must_use]
    pub fn delivery(&self, now: Timestamp) -> Progress {
        match self {
            Self::Deliver | Self::Fetch(_) => Progress::queued(now),
            Self::Park(_) => Progress::parked(Cause::Needs, NEEDS_PARKED.to_owned(), now),
        }
    }

    /// Whether a delivery may go at once, as far as the entry is concerned.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Deliver)
    }
}

/// The fetches of the same entry that must be done before a stage may go.
#[must_use]
pub const fn needs(stage: &Stage) -> &'static [Fetch] {
    match stage {
        Stage::Fetch(_) => &[],
        Stage::Deliver(_) => &Fetch::ALL,
    }
}

/// Whether the end of a delivery puts a fetch of the same entry back in line that stands so.
#[must_use]
pub fn fetches_again(outcome: &Outcome, fetch: Standing) -> bool {
    *outcome == Outcome::Unfetched && fetch == Standing::Done
}

/// What the end of a fetch does to a stage of the same entry that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing.
    Nothing,
    /// It may go now, if it is first in its line: look at the line again.
    MayGo,
    /// It cannot go: [`Progress::park_for_needs`].
    IsParked,
}

/// What the end of a fetch does to a stage of the same entry that needs it and stands so.
#[must_use]
pub const fn follows(fetch: Standing, dependent: Standing) -> Follows {
    match (fetch, dependent) {
        (Standing::Done, Standing::Queued) => Follows::MayGo,
        (Standing::Parked, Standing::Queued) => Follows::IsParked,
        _ => Follows::Nothing,
    }
}

/// What becomes of a stage that a worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The worker has it.
    Leased,
    /// Its lease had expired, and an earlier entry of its line was replayed meanwhile: it waits behind that one.
    Waits,
    /// Its leases ended without a word too often: it has left its line.
    Parked,
}

impl Progress {
    /// New in line.
    #[must_use]
    pub const fn queued(now: Timestamp) -> Self {
        Self {
            standing: Standing::Queued,
            due: now,
            attempts: 0,
            losses: 0,
            token: None,
            failing_since: None,
            doubts: Doubts { tries: 0, since: None },
            changed: now,
            cause: None,
            reason: None,
            resumed: None,
        }
    }

    /// New in line, of an entry whose fetches stand so.
    #[must_use]
    pub fn added(fetches: &[Standing], now: Timestamp) -> Self {
        let mut progress = Self::queued(now);
        if fetches.contains(&Standing::Parked) {
            progress.park_for_needs(now);
        }
        progress
    }

    fn parked(cause: Cause, reason: String, now: Timestamp) -> Self {
        let mut progress = Self::queued(now);
        progress.leave(Standing::Parked, Some(cause), Some(reason), now);
        progress
    }

    /// Makes it due at its time if it is queued, first in its line, and its needs are done.
    pub fn stand(&mut self, is_first: bool, needs_are_done: bool) {
        if self.standing == Standing::Queued && is_first && needs_are_done {
            self.standing = Standing::Due;
        }
    }

    /// Its line has moved up to it, or its needs are done: as [`stand`](Self::stand), and not before now. Returns whether
    /// it is due now and was not before.
    pub fn move_up(&mut self, needs_are_done: bool, now: Timestamp) -> bool {
        if self.standing != Standing::Queued || !needs_are_done {
            return false;
        }
        self.standing = Standing::Due;
        self.due = self.due.max(now);
        true
    }

    /// Lets it wait behind an earlier entry that came back into its line.
    pub fn step_back(&mut self) {
        if self.standing == Standing::Due {
            self.standing = Standing::Queued;
        }
    }

    /// Leases it. One whose lease has expired may not be first in its line any more.
    pub fn claim(&mut self, token: Token, expires: Timestamp, now: Timestamp, is_first: bool) -> Claim {
        if self.token.is_some() {
            self.losses = self.losses.saturating_add(1);
            if !is_first {
                self.put_back(now, now);
                return Claim::Waits;
            }
        }
        if self.losses >= MOST_LOSSES {
            let reason = format!(
                "the service ended or hung {} times in a row while it worked on this entry: look at the logs of those times before you replay it",
                self.losses
            );
            self.leave(Standing::Parked, Some(Cause::Lost), Some(reason), now);
            return Claim::Parked;
        }
        self.standing = Standing::Leased;
        self.token = Some(token);
        self.due = expires;
        self.attempts = self.attempts.saturating_add(1);
        self.changed = now;
        Claim::Leased
    }

    /// Whether this is the lease under which it is worked on.
    #[must_use]
    pub fn is_held_by(&self, token: Token) -> bool {
        self.standing == Standing::Leased && self.token == Some(token)
    }

    /// Prolongs its lease.
    pub const fn renew(&mut self, expires: Timestamp) {
        self.due = expires;
    }

    /// Ends its lease. Where it is queued afterwards, [`stand`](Self::stand) follows; else it has left its line.
    pub fn settle(&mut self, outcome: &Outcome, now: Timestamp) {
        match outcome {
            Outcome::Done | Outcome::Fetched { .. } => self.leave(Standing::Done, None, None, now),
            Outcome::Gone => self.leave(Standing::Done, None, Some(GONE.to_owned()), now),
            Outcome::Superseded => self.leave(Standing::Done, None, Some(SUPERSEDED.to_owned()), now),
            Outcome::Filtered { by } => self.leave(Standing::Done, None, Some(format!("filtered: {by}")), now),
            Outcome::Unneeded => self.leave(Standing::Done, None, Some(UNNEEDED.to_owned()), now),
            Outcome::Park { cause, reason } => {
                self.leave(Standing::Parked, Some(cause.clone()), Some(reason.clone()), now);
            }
            Outcome::Retry { due, reason, is_doubtful } => {
                self.failing_since = self.failing_since.or(Some(now));
                self.doubts = if *is_doubtful {
                    Doubts { tries: self.doubts.tries.saturating_add(1), since: self.doubts.since.or(Some(now)) }
                } else {
                    Doubts::default()
                };
                self.reason = Some(reason.clone());
                self.end_lease(*due, now);
            }
            Outcome::Postpone { due, reason } => {
                self.reason = Some(reason.clone());
                self.give_back(*due, now);
            }
            Outcome::GiveBack | Outcome::Unfetched => self.give_back(now, now),
        }
    }

    /// Ends its lease as if it had never been given out.
    pub fn give_back(&mut self, due: Timestamp, now: Timestamp) {
        self.attempts = self.attempts.saturating_sub(1);
        self.end_lease(due, now);
    }

    /// Ends its lease because its holder is gone without a word.
    pub fn lose(&mut self, now: Timestamp) {
        self.losses = self.losses.saturating_add(1);
        self.put_back(now, now);
    }

    /// Puts it back in line as if it had never been tried.
    pub fn requeue(&mut self, now: Timestamp) {
        *self = Self::queued(now);
    }

    /// Whether the sink's trouble is all that keeps it parked, and it has not gone back in line by itself since `before`.
    #[must_use]
    pub fn may_resume(&self, before: Timestamp) -> bool {
        self.cause.as_ref().is_some_and(Cause::passes) && self.resumed.is_none_or(|resumed| resumed <= before)
    }

    /// Puts it back in line because the sink is well again.
    pub fn resume(&mut self, now: Timestamp) {
        *self = Self { resumed: Some(now), ..Self::queued(now) };
    }

    /// Takes it out of its line because an operator says so.
    pub fn park_by_hand(&mut self, reason: &str, now: Timestamp) {
        self.leave(Standing::Parked, Some(Cause::Operator), Some(reason.to_owned()), now);
    }

    /// Whether another sink may take it over: nobody works on it.
    #[must_use]
    pub fn is_free(&self, now: Timestamp) -> bool {
        match self.standing {
            Standing::Queued | Standing::Due | Standing::Parked => true,
            Standing::Leased => self.due <= now,
            Standing::Done => false,
        }
    }

    /// Ends it because another sink has taken it over, or had it already.
    pub fn close(&mut self, reason: &str, now: Timestamp) {
        self.leave(Standing::Done, None, Some(reason.to_owned()), now);
    }

    /// How it begins at the sink that takes it over. What is parked stays parked, for the same reason.
    #[must_use]
    pub fn taken_over(&self, now: Timestamp) -> Self {
        match (&self.cause, &self.reason) {
            (Some(cause), Some(reason)) if self.standing == Standing::Parked => {
                Self::parked(cause.clone(), reason.clone(), now)
            }
            _ => Self::queued(now),
        }
    }

    /// Takes it out of its line because what it needs was parked.
    pub fn park_for_needs(&mut self, now: Timestamp) {
        self.leave(Standing::Parked, Some(Cause::Needs), Some(NEEDS_PARKED.to_owned()), now);
    }

    fn end_lease(&mut self, due: Timestamp, now: Timestamp) {
        self.losses = 0;
        self.put_back(due, now);
    }

    fn put_back(&mut self, due: Timestamp, now: Timestamp) {
        self.standing = Standing::Queued;
        self.token = None;
        self.due = due;
        self.changed = now;
    }

    fn leave(&mut self, to: Standing, cause: Option<Cause>, reason: Option<String>, now: Timestamp) {
        let Self { attempts, resumed, .. } = *self;
        *self = Self { standing: to, attempts, cause, reason, resumed, ..Self::queued(now) };
    }
}

/// Why a delivery ended at the sink that left it behind.
#[must_use]
pub(crate) fn moved(to: &SinkName, has_it: bool) -> String {
    let which = if has_it { ", which had it already" } else { "" };
    format!("moved to the sink {to}{which}")
}

/// Whether an attempt that ended like this is remembered beside the stage. A success is not: the stage itself says it.
#[must_use]
pub const fn is_remembered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Retry { .. } | Outcome::Park { .. })
}

/// An entry's state from its stages' states: parked if any is parked, else leased if any is leased, else waiting if any
/// waits, else done.
#[must_use]
pub fn together(stages: impl IntoIterator<Item = State>) -> State {
    let rank = |state: &State| match state {
        State::Done => 0,
        State::Waiting => 1,
        State::Leased => 2,
        State::Parked => 3,
    };
    stages.into_iter().max_by_key(rank).unwrap_or(State::Done)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
