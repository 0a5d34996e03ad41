//! The model of `model`: small enough to be believed.
//!
//! For each stage of each entry the model knows whether the stage is open, leased, done or parked, and how often leases of
//! it were lost. Entries stand in the order in which their accepts were answered; that alone is the order of a connection.

use inbox::{Cause, CredentialsMark, Seq, State, Token, rules::ATTEMPTS_KEPT, rules::MOST_LOSSES};
use std::collections::BTreeMap;

/// A stage by its number: 0 is the fetch, sinks follow.
pub(crate) type StageIndex = usize;
pub(crate) const FETCH: StageIndex = 0;

/// Where a stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Open,
    Leased(Token),
    /// Leased, and the lease has expired without a word.
    Expired,
    Done,
    Parked(Cause),
}

impl Work {
    pub(crate) fn is_in_line(&self) -> bool {
        matches!(self, Self::Open | Self::Leased(_) | Self::Expired)
    }

    pub(crate) fn state(&self) -> State {
        match self {
            Self::Open => State::Waiting,
            Self::Leased(_) | Self::Expired => State::Leased,
            Self::Done => State::Done,
            Self::Parked(_) => State::Parked,
        }
    }
}

/// A stage of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) work: Work,
    pub(crate) losses: u32,
    /// Doubtful failures in a row.
    pub(crate) doubts: u32,
    /// How remembered attempts ended.
    pub(crate) attempts: Vec<State>,
}

impl Part {
    fn remember(&mut self, state: State) {
        self.attempts.push(state);
        if self.attempts.len() > ATTEMPTS_KEPT as usize {
            self.attempts.remove(0);
        }
    }

    fn leave(&mut self, work: Work) {
        self.work = work;
        (self.losses, self.doubts) = (0, 0);
    }

    fn requeue(&mut self) {
        if self.work == Work::Done {
            self.remember(State::Done);
        }
        self.leave(Work::Open);
    }
}

/// An accepted event.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    pub(crate) connection: u8,
    pub(crate) json: String,
    pub(crate) parts: BTreeMap<StageIndex, Part>,
}

impl Entry {
    pub(crate) fn new(seq: Seq, connection: u8, json: String, stages: impl IntoIterator<Item = StageIndex>) -> Self {
        let part = Part { work: Work::Open, losses: 0, doubts: 0, attempts: Vec::new() };
        let parts = stages.into_iter().map(|stage| (stage, part.clone())).collect();
        Self { seq, connection, json, parts }
    }

    fn is_fetched(&self) -> bool {
        self.parts.get(&FETCH).is_none_or(|part| part.work == Work::Done)
    }

    pub(crate) fn state(&self) -> State {
        let any = |state| self.parts.values().any(|part| part.work.state() == state);
        [State::Parked, State::Leased, State::Waiting].into_iter().find(|state| any(*state)).unwrap_or(State::Done)
    }

    fn park(&mut self, stage: StageIndex, cause: Cause) {
        self.parts.get_mut(&stage).unwrap().leave(Work::Parked(cause));
        if stage == FETCH {
            for part in self.parts.values_mut().filter(|part| part.work == Work::Open) {
                part.leave(Work::Parked(Cause::Needs));
            }
        }
    }
}

/// How a lease ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Done,
    Retry { is_doubtful: bool },
    Park,
    ParkForCredentials,
    GiveBack,
}

/// The credentials that were not good enough, in all of the model's operations.
pub(crate) fn mark() -> CredentialsMark {
    CredentialsMark::new("old")
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// In the order in which their accepts were answered.
    pub(crate) entries: Vec<Entry>,
}

impl Model {
    pub(crate) fn part(&self, stage: StageIndex, entry: usize) -> Option<&Part> {
        self.entries[entry].parts.get(&stage)
    }

    pub(crate) fn index(&self, seq: Seq) -> usize {
        self.entries.iter().position(|entry| entry.seq == seq).unwrap()
    }

    /// Whether nothing of its connection that was accepted before is unfinished at this stage.
    fn is_first(&self, stage: StageIndex, entry: usize) -> bool {
        let connection = self.entries[entry].connection;
        let earlier = self.entries[..entry].iter().filter(|earlier| earlier.connection == connection);
        earlier.filter_map(|earlier| earlier.parts.get(&stage)).all(|part| !part.work.is_in_line())
    }

    /// Whether this stage may be leased now: nothing unfinished stands before it, and its accounts are there.
    pub(crate) fn may_lease(&self, stage: StageIndex, entry: usize) -> bool {
        let free = self.part(stage, entry).is_some_and(|part| matches!(part.work, Work::Open | Work::Expired));
        free && self.is_first(stage, entry) && (stage == FETCH || self.entries[entry].is_fetched())
    }

    /// What happens of itself when a stage is asked for: an expired lease is lost; where an earlier entry was replayed
    /// meanwhile, the entry waits behind that one; where it was lost too often, it is parked. Returns what may be leased.
    pub(crate) fn look(&mut self, stage: StageIndex) -> Vec<usize> {
        let mut ready = Vec::new();
        for entry in 0..self.entries.len() {
            let (is_first, may_lease) = (self.is_first(stage, entry), self.may_lease(stage, entry));
            let Some(part) = self.entries[entry].parts.get_mut(&stage) else { continue };
            if part.work == Work::Expired {
                part.losses += 1;
                if !is_first {
                    part.work = Work::Open;
                }
            }
            if may_lease && part.losses >= MOST_LOSSES {
                part.remember(State::Parked);
                self.entries[entry].park(stage, Cause::Lost);
            } else if may_lease {
                ready.push(entry);
            }
        }
        ready
    }

    /// Whether a claim does more than hand out what is open.
    pub(crate) fn is_unruly(&self, stage: StageIndex) -> bool {
        let parts = self.entries.iter().filter_map(|entry| entry.parts.get(&stage));
        parts.into_iter().any(|part| part.work == Work::Expired || part.losses >= MOST_LOSSES)
    }

    pub(crate) fn set(&mut self, stage: StageIndex, entry: usize, work: Work) {
        self.entries[entry].parts.get_mut(&stage).unwrap().work = work;
    }

    pub(crate) fn settle(&mut self, stage: StageIndex, entry: usize, how: How) {
        let part = self.entries[entry].parts.get_mut(&stage).unwrap();
        match how {
            How::Done => part.leave(Work::Done),
            How::GiveBack => (part.work, part.losses) = (Work::Open, 0),
            How::Retry { is_doubtful } => {
                part.doubts = if is_doubtful { part.doubts + 1 } else { 0 };
                (part.work, part.losses) = (Work::Open, 0);
                part.remember(State::Waiting);
            }
            How::Park | How::ParkForCredentials => {
                part.remember(State::Parked);
                let cause = match how {
                    How::ParkForCredentials => Cause::Credentials(mark()),
                    _ => Cause::Refused,
                };
                self.entries[entry].park(stage, cause);
            }
        }
    }

    pub(crate) fn crash(&mut self) {
        for part in self.entries.iter_mut().flat_map(|entry| entry.parts.values_mut()) {
            if matches!(part.work, Work::Leased(_) | Work::Expired) {
                part.work = Work::Open;
                part.losses += 1;
            }
        }
    }

    /// An operator parks an entry, or its part for one sink; whether that changed anything.
    pub(crate) fn park_by_hand(&mut self, entry: usize, only: Option<StageIndex>) -> bool {
        let stages: Vec<StageIndex> = self.entries[entry].parts.keys().copied().collect();
        let mut changed = false;
        for stage in stages.into_iter().filter(|stage| only.is_none_or(|only| only == *stage)) {
            let part = self.entries[entry].parts.get_mut(&stage).unwrap();
            if part.work.is_in_line() {
                part.remember(State::Parked);
                self.entries[entry].park(stage, Cause::Operator);
                changed = true;
            }
        }
        changed
    }

    /// An operator puts an entry back in line, or its part for one sink; whether that changed anything. What is parked goes
    /// on; where nothing is, what is done is done again.
    pub(crate) fn replay(&mut self, entry: usize, only: Option<StageIndex>) -> bool {
        let parts = &mut self.entries[entry].parts;
        let is_parked = |part: &Part| matches!(part.work, Work::Parked(_));
        let any_parked = parts.values().any(is_parked);
        let is_fetch_parked = parts.get(&FETCH).is_some_and(is_parked);
        let mut changed = false;
        for (stage, part) in parts {
            let is_meant = match (*stage, only) {
                (FETCH, _) => is_parked(part),
                (stage, Some(only)) => only == stage || (is_fetch_parked && part.work == Work::Parked(Cause::Needs)),
                (_, None) => is_parked(part) || !any_parked,
            };
            if is_meant && !part.work.is_in_line() {
                part.requeue();
                changed = true;
            }
        }
        changed
    }

    /// Other credentials are there: the fetches that wait for them go on, and what needs those; how many entries that are.
    pub(crate) fn resume(&mut self) -> u64 {
        let mut resumed = 0;
        for entry in &mut self.entries {
            if entry.parts.get(&FETCH).is_some_and(|part| part.work == Work::Parked(Cause::Credentials(mark()))) {
                resumed += 1;
                for part in entry.parts.values_mut() {
                    if matches!(part.work, Work::Parked(Cause::Credentials(_) | Cause::Needs)) {
                        part.requeue();
                    }
                }
            }
        }
        resumed
    }
}
