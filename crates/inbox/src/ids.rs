//! Names and numbers of the inbox as types, so that one cannot stand where another is meant.

use base::names::SinkName;
use serde::Serialize;
use std::fmt;

/// Number of an entry: an identity, never used again in one inbox. The order of a connection's entries is that of their
/// places in the connection's line, not that of these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far the record of accepted events reaches. What was accepted up to a position is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Number of one reading of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ReadingId(pub i64);

/// Proves who holds a lease; a new random number with every lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

/// Which part of an entry's work. A delivery needs every fetch of its entry ([`crate::rules::needs`]).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Get what the event left out.
    Fetch(Fetch),
    /// Hand the entry to this sink.
    Deliver(SinkName),
}

/// What can be fetched for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fetch {
    /// The connection's accounts.
    Accounts,
}

impl Fetch {
    /// Every kind of fetch.
    pub const ALL: [Self; 1] = [Self::Accounts];

    /// The word for its stage in output, metrics and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "completion",
        }
    }
}

impl Stage {
    /// The stage that fetches accounts.
    pub const ACCOUNTS: Self = Self::Fetch(Fetch::Accounts);

    /// The stage of a sink.
    #[must_use]
    pub fn deliver(sink: &str) -> Self {
        Self::Deliver(SinkName::new(sink))
    }

    /// The stage's word in output, metrics and filters: `completion`, or the sink's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fetch(fetch) => fetch.as_str(),
            Self::Deliver(sink) => sink.as_str(),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State of a stage, and of an entry as its stages taken together ([`crate::rules::together`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be worked on: now, at a later time, or after an earlier entry of its connection.
    Waiting,
    /// A worker has it.
    Leased,
    /// Nothing is left to do.
    Done,
    /// A person must act; the reason says how.
    Parked,
}

impl State {
    /// All states, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Leased, Self::Done, Self::Parked];

    /// The word for it in output, metrics and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Parked => "parked",
        }
    }
}

/// Which inbox this is: made at random with the store. What belongs together (journal, store, keys) carries the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub [u8; 16]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The inbox's identity, and keys that all its receivers must share. The keys are random and never leave the store.
#[derive(Clone)]
pub struct Keys {
    /// Which inbox this is.
    pub identity: Identity,
    /// For the hashes by which the same content is recognised.
    pub(crate) dedup: [u8; 16],
    /// For fingerprints of credentials that were not good enough.
    pub fingerprints: [u8; 32],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        let keys = Keys { identity: Identity([1; 16]), dedup: [0xab; 16], fingerprints: [0xcd; 32] };
        let shown = format!("{keys:?}");
        assert!(shown.contains("01010101") && !shown.contains("ab") && !shown.contains("205"), "{shown}");
    }
}
