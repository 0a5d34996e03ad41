//! What is remembered of each connection that is in trouble. Connections that only succeed leave nothing here.

use super::{
    Moment,
    belief::{Kind, Own, Proof, Refusals},
    key::Key,
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// Connections remembered at most.
const MOST: usize = 20_000;
/// For how long a connection that failed counts as one that failed. Longer than any wait between two tries.
const FAILED_FOR: Duration = Duration::from_mins(30);

/// The last failure of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    pub(super) at: Moment,
    /// How long the call took.
    pub(super) took: Duration,
    /// Whether it took so long that it counted as hanging.
    pub(super) hung: bool,
}

#[derive(Debug, Default)]
struct Record {
    /// When it was last changed, as a number that grows.
    touched: u64,
    failing: Option<Failing>,
    rests_until: Option<Moment>,
    refusals: Refusals,
}

/// What is remembered, the least recently changed first to go.
#[derive(Debug, Default)]
pub(super) struct Known {
    records: HashMap<Key, Record>,
    by_age: BTreeMap<u64, Key>,
    clock: u64,
}

impl Known {
    /// The last failure, unless it was long ago.
    pub(super) fn failing(&self, who: Key, now: Moment) -> Option<Failing> {
        let failing = self.records.get(&who)?.failing?;
        (now.since(failing.at) < FAILED_FOR).then_some(failing)
    }

    pub(super) fn rests_until(&self, who: Key, now: Moment) -> Option<Moment> {
        self.records.get(&who)?.rests_until.filter(|until| *until > now)
    }

    pub(super) fn fails(&mut self, who: Key, failing: Failing) {
        // A quick failure does not wipe out that the connection hung before.
        let record = self.record(who);
        let hung = failing.hung || record.failing.is_some_and(|before| before.hung);
        record.failing = Some(Failing { hung, ..failing });
    }

    pub(super) fn rest(&mut self, who: Key, until: Moment) {
        let record = self.record(who);
        record.rests_until = record.rests_until.max(Some(until));
    }

    pub(super) fn refused(&mut self, who: Key, kind: Kind, own: Own, proof: Proof, now: Moment) -> bool {
        self.record(who).refusals.add(kind, own, proof, now)
    }

    /// A call succeeded. One that hung is forgiven only when its whole work succeeded, because the next call of that work may
    /// hang as well.
    pub(super) fn forgive(&mut self, who: Key) {
        if let Some(record) = self.records.get_mut(&who) {
            record.failing = record.failing.filter(|failing| failing.hung);
        }
    }

    pub(super) fn forget(&mut self, who: Key) {
        if let Some(record) = self.records.remove(&who) {
            self.by_age.remove(&record.touched);
        }
    }

    fn record(&mut self, who: Key) -> &mut Record {
        self.clock = self.clock.saturating_add(1);
        let record = self.records.entry(who).or_default();
        self.by_age.remove(&record.touched);
        record.touched = self.clock;
        self.by_age.insert(self.clock, who);
        if self.by_age.len() > MOST
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.records.remove(&oldest);
        }
        self.records.entry(who).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever ids callers make up, memory stays within its bound, and the latest trouble is the one that is known.
    #[test]
    fn the_least_recently_changed_connections_are_forgotten() {
        let mut known = Known::default();
        let failing = Failing { at: Moment::default(), took: Duration::ZERO, hung: false };
        let most = u64::try_from(MOST).unwrap();
        for number in 0..most {
            known.fails(Key::new(number), failing);
        }
        known.fails(Key::new(0), failing);
        known.fails(Key::new(most), failing);
        assert!(known.failing(Key::new(0), Moment::default()).is_some());
        assert!(known.failing(Key::new(1), Moment::default()).is_none());
        assert_eq!((known.records.len(), known.by_age.len()), (MOST, MOST));
    }
}
