//! How many stages there are of each kind, and how many of them wait, are leased or parked: exact for what this receiver has done,
//! and as recent as the last look for what others have.
//!
//! The table `tally` is written in the transactions that change stages, so a look at it never counts. What this receiver commits after
//! a look is added here. A look and a commit may overlap; whether the look saw the commit is told by the number of the
//! transaction and the snapshot of the look, so nothing is counted twice or missed.

use crate::{kind::Kind, numbers::Numbers, rules::Standing};
use std::collections::BTreeMap;

/// By how much one transaction changes the numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(BTreeMap<Kind, Numbers>);

impl Changes {
    /// A stage stands differently than before; `None`: it was not there, or is not any more.
    pub(super) fn stands(&mut self, kind: Kind, was: Option<Standing>, is: Option<Standing>) {
        self.0.entry(kind).or_default().stands(was, is);
    }

    /// So many stages were leased.
    pub(super) fn leased(&mut self, kind: Kind, count: usize) {
        self.0.entry(kind).or_default().leased += super::codes::signed(count);
    }

    /// What changed, by kind.
    pub(super) fn by_kind(&self) -> impl Iterator<Item = (Kind, Numbers)> + '_ {
        self.0.iter().filter(|(_, numbers)| **numbers != Numbers::default()).map(|(kind, numbers)| (*kind, *numbers))
    }
}

/// Which transactions a look has seen: a `pg_snapshot` (PostgreSQL manual, section 9.27.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// From its text, `xmin:xmax:xip,xip,...`; `None`: it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok());
        Some(Self { xmin, xmax, running: running.collect::<Option<_>>()? })
    }

    fn has_seen(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.running.contains(&xid))
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    snapshot: Snapshot,
    looked: BTreeMap<Kind, Numbers>,
    /// What this receiver committed that the last look has not seen.
    since: Vec<(u64, Changes)>,
    /// All of it together.
    sum: BTreeMap<Kind, Numbers>,
}

impl Tally {
    /// A look at the table found these.
    pub(super) fn looked(&mut self, snapshot: Snapshot, found: BTreeMap<Kind, Numbers>) {
        self.since.retain(|(xid, _)| !snapshot.has_seen(*xid));
        (self.snapshot, self.looked) = (snapshot, found);
        self.sum = self.looked.clone();
        for (_, changes) in &self.since {
            add(&mut self.sum, changes);
        }
    }

    /// This receiver committed a transaction.
    pub(super) fn committed(&mut self, xid: u64, changes: Changes) {
        if !self.snapshot.has_seen(xid) {
            add(&mut self.sum, &changes);
            self.since.push((xid, changes));
        }
    }

    /// The numbers of every kind that ever had a stage.
    pub(super) const fn numbers(&self) -> &BTreeMap<Kind, Numbers> {
        &self.sum
    }

    /// Unfinished entries: those of the stage that has most.
    pub(super) fn backlog(&self) -> u64 {
        let most = self.sum.values().map(|numbers| numbers.unfinished).max().unwrap_or(0);
        u64::try_from(most).unwrap_or(0)
    }
}

fn add(sum: &mut BTreeMap<Kind, Numbers>, changes: &Changes) {
    for (kind, by) in changes.by_kind() {
        *sum.entry(kind).or_default() += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(count: i64) -> BTreeMap<Kind, Numbers> {
        BTreeMap::from([(Kind(1), Numbers { unfinished: count, ..Numbers::default() })])
    }

    fn one_more() -> Changes {
        let mut changes = Changes::default();
        changes.stands(Kind(1), None, Some(Standing::Due));
        changes
    }

    #[test]
    fn a_commit_is_counted_once_whether_the_look_saw_it_or_not() {
        let snapshot = Snapshot::parse("10:20:12,15").unwrap();
        assert_eq!([9, 10, 12, 19, 20].map(|xid| snapshot.has_seen(xid)), [true, true, false, true, false]);
        assert_eq!(Snapshot::parse("10:10:").unwrap().running, Vec::<u64>::new());
        assert!(Snapshot::parse("10").is_none() && Snapshot::parse("a:b:").is_none());
        let mut tally = Tally::default();
        tally.committed(11, one_more());
        tally.committed(12, one_more());
        assert_eq!(tally.backlog(), 2);
        // The look saw 11, and three of another receiver. 12 and 15 were under way.
        tally.looked(snapshot, waiting(4));
        assert_eq!(tally.backlog(), 5);
        tally.committed(15, one_more());
        assert_eq!(tally.backlog(), 6);
        // Its answer came after the look that saw it.
        tally.committed(19, one_more());
        assert_eq!(tally.backlog(), 6);
        tally.looked(Snapshot::parse("30:30:").unwrap(), waiting(6));
        assert_eq!((tally.backlog(), tally.since.len()), (6, 0));
    }
}
