//! When a refusal counts as meant. A proxy, a deployment or a moment's state may refuse as well, and then the same work
//! succeeds an hour later. So a refusal is believed only when the same answer came again and again over some time.

use super::{Key, Moment};
use std::{
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

/// Kinds of refusals remembered of one connection.
const KINDS: usize = 4;
/// A refusal that did not come again for this long says nothing about the next one.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// Connections that are refused with no success between, from which on it is the neighbour and not the connection.
const SEVERAL: usize = 2;
/// Of those, remembered at most.
const MOST_REFUSED: usize = 64;

/// What a refusal is recognised by: its status and the code that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(u64);

impl Kind {
    /// A status with the neighbour's own code, where it gave one.
    #[must_use]
    pub fn new(status: u16, code: Option<&str>) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one((status, code)))
    }
}

/// What it takes to believe a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// It was given so often,
    pub tries: u32,
    /// from the first to the last time over at least this long.
    pub lasting: Duration,
}

impl Proof {
    /// What it takes where nothing else is said: five tries over an hour.
    pub const USUAL: Self = Self { tries: 5, lasting: Duration::from_hours(1) };

    /// Whether so many refusals over so long are enough.
    #[must_use]
    pub fn is_given_by(self, seen: Own) -> bool {
        seen.tries >= self.tries && seen.lasting >= self.lasting
    }
}

/// What one piece of work saw by itself, as its inbox entry remembers it over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Refusals in a row, this one included.
    pub tries: u32,
    /// From the first of them until now.
    pub lasting: Duration,
}

/// Whether a refusal is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The connection was given this answer often enough and for long enough.
    pub is_believed: bool,
    /// The answer is believed, and this work tried often enough itself: it is to be parked.
    pub park: bool,
    /// Who is refused.
    pub whose: Whose,
}

/// Whose trouble a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of this connection: the neighbour takes the work of others.
    Connection,
    /// Of the neighbour: it refused several connections, and no work succeeded between; or nothing is known yet that it takes.
    Neighbour,
}

/// The refusals of one connection, by kind.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

#[derive(Debug)]
struct Refusal {
    kind: Kind,
    first: Moment,
    last: Moment,
    tries: u32,
    is_believed: bool,
}

impl Refusals {
    /// Takes a refusal in; returns whether it is believed.
    pub(super) fn add(&mut self, kind: Kind, own: Own, proof: Proof, now: Moment) -> bool {
        let place = self.0.iter().position(|refusal| refusal.kind == kind);
        let before = place.map(|place| self.0.remove(place)).filter(|before| now.since(before.last) <= FORGET_AFTER);
        let mut refusal = before.unwrap_or(Refusal { kind, first: now, last: now, tries: 0, is_believed: false });
        refusal.tries = refusal.tries.saturating_add(1);
        refusal.last = now;
        let seen = Own { tries: refusal.tries, lasting: now.since(refusal.first) };
        refusal.is_believed |= proof.is_given_by(seen) || proof.is_given_by(own);
        let is_believed = refusal.is_believed;
        // The latest is last, so that the one that has not come for the longest goes.
        self.0.push(refusal);
        if self.0.len() > KINDS {
            self.0.remove(0);
        }
        is_believed
    }
}

/// The connections that were refused since work last succeeded.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    refused: HashSet<Key>,
    /// When the first of them was.
    since: Option<Moment>,
    has_succeeded: bool,
}

impl Refusing {
    pub(super) fn add(&mut self, who: Key, now: Moment) {
        self.since.get_or_insert(now);
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(who);
        }
    }

    pub(super) fn clear(&mut self) {
        self.refused.clear();
        self.since = None;
        self.has_succeeded = true;
    }

    /// What was refused is nobody's work any more.
    pub(super) const fn forget_since(&mut self) {
        self.since = None;
    }

    /// Whether connections were refused, and that is the neighbour's own trouble.
    pub(super) fn is_as_a_whole(&self) -> bool {
        !self.refused.is_empty() && self.whose() == Whose::Neighbour
    }

    /// Since when that is so; `None` also where what was refused is nobody's work any more.
    pub(super) fn as_a_whole_since(&self) -> Option<Moment> {
        self.since.filter(|_| self.is_as_a_whole())
    }

    pub(super) fn whose(&self) -> Whose {
        let is_alone = self.has_succeeded && self.refused.len() < SEVERAL;
        if is_alone { Whose::Connection } else { Whose::Neighbour }
    }
}
