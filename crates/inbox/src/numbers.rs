//! How many stages of a kind there are. Stores keep these numbers beside the stages, because to count a million takes too long for a
//! look at the figures.

use crate::{StageCounts, rules::Standing};
use std::ops::AddAssign;

/// See the head of this file. Also by how much they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// In line, under work or not.
    pub(crate) unfinished: i64,
    pub(crate) leased: i64,
    pub(crate) parked: i64,
}

impl Numbers {
    /// A stage stands differently than before; `None`: it was not there, or is not any more.
    pub(crate) const fn stands(&mut self, was: Option<Standing>, is: Option<Standing>) {
        self.stand(was, -1);
        self.stand(is, 1);
    }

    const fn stand(&mut self, standing: Option<Standing>, by: i64) {
        match standing {
            Some(Standing::Leased) => {
                self.unfinished += by;
                self.leased += by;
            }
            Some(Standing::Queued | Standing::Due) => self.unfinished += by,
            Some(Standing::Parked) => self.parked += by,
            Some(Standing::Done) | None => {}
        }
    }

    /// As the interface of the inbox has them.
    pub(crate) fn counts(self) -> StageCounts {
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        StageCounts {
            waiting: count(self.unfinished - self.leased),
            leased: count(self.leased),
            parked: count(self.parked),
        }
    }
}

impl AddAssign for Numbers {
    fn add_assign(&mut self, other: Self) {
        self.unfinished += other.unfinished;
        self.leased += other.leased;
        self.parked += other.parked;
    }
}
