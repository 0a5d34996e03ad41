//! Where a stage stands.

use crate::State;

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In line, behind an earlier entry or before what it needs is done.
    Queued,
    /// First in line: to be leased at its time.
    Due,
    /// A worker has it.
    Leased,
    /// Nothing is left to do.
    Done,
    /// A person must act, or the cause must go.
    Parked,
}

impl Standing {
    /// Whether it holds up later entries of its line.
    #[must_use]
    pub const fn is_in_line(self) -> bool {
        matches!(self, Self::Queued | Self::Due | Self::Leased)
    }

    /// The word for it in a store.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Due => "due",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Parked => "parked",
        }
    }

    /// What a word stands for; `None`: the word is of another version.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        const ALL: [Standing; 5] =
            [Standing::Queued, Standing::Due, Standing::Leased, Standing::Done, Standing::Parked];
        ALL.into_iter().find(|standing| standing.as_str() == word)
    }

    /// What people call it.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::Queued | Self::Due => State::Waiting,
            Self::Leased => State::Leased,
            Self::Done => State::Done,
            Self::Parked => State::Parked,
        }
    }
}
