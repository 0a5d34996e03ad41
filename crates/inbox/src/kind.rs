//! Stages by number, as a store keeps them: a fetch by its fixed number, a sink by the number of its name.

use crate::{Fetch, SinkName, Stage};

/// `stage.kind`: a fetch by its fixed number, a sink by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind(pub(crate) i64);

impl Kind {
    /// A fetch has this number or a smaller one, a sink a larger one.
    pub(crate) const LAST_FETCH: Self = Self(0);

    pub(crate) const fn of_fetch(fetch: Fetch) -> Self {
        match fetch {
            Fetch::Accounts => Self(0),
        }
    }

    pub(crate) fn is_fetch(self) -> bool {
        self <= Self::LAST_FETCH
    }

    /// The fetch with this number.
    pub(crate) fn fetch(self) -> Option<Fetch> {
        Fetch::ALL.into_iter().find(|fetch| Self::of_fetch(*fetch) == self)
    }
}

/// The configured sinks with their numbers, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sinks(pub(crate) Vec<(Kind, SinkName)>);

impl Sinks {
    /// The kind of a stage; `None` for a sink that is not configured.
    pub(crate) fn kind(&self, stage: &Stage) -> Option<Kind> {
        match stage {
            Stage::Fetch(fetch) => Some(Kind::of_fetch(*fetch)),
            Stage::Deliver(name) => self.0.iter().find(|(_, sink)| sink == name).map(|(kind, _)| *kind),
        }
    }

    /// Every stage that has work: fetches, then sinks.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (Kind, Stage)> + '_ {
        let fetches = Fetch::ALL.into_iter().map(|fetch| (Kind::of_fetch(fetch), Stage::Fetch(fetch)));
        fetches.chain(self.0.iter().map(|(kind, name)| (*kind, Stage::Deliver(name.clone()))))
    }
}
