//! The newest things that happened, as a store knows them without asking its disk; and how those wait for the next one who
//! look on.

use crate::{Outcome, What, kind::Kind};
use base::{clock::Timestamp, sync::lock};
use std::{collections::VecDeque, sync::Mutex};
use tokio::sync::watch;

/// Happenings that are kept.
const KEPT: usize = 4096;

/// A happening.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
    pub(crate) seq: i64,
    /// `None`: the entry as a whole.
    pub(crate) kind: Option<Kind>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) due: Option<Timestamp>,
}

impl Noted {
    /// An entry is new.
    pub(crate) const fn accepted(seq: i64, at: Timestamp) -> Self {
        Self { at, what: What::Accepted, seq, kind: None, reason: None, due: None }
    }

    /// A stage was parked.
    pub(crate) fn parked(seq: i64, kind: Kind, reason: Option<&str>, at: Timestamp) -> Self {
        Self { at, what: What::Parked, seq, kind: Some(kind), reason: reason.map(Box::from), due: None }
    }

    /// A lease ended. `None`: [`parked`](Self::parked) says it, or nothing was tried.
    pub(crate) fn settled(
        (seq, kind): (i64, Kind),
        outcome: &Outcome,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Option<Self> {
        let (what, due) = match outcome {
            Outcome::Fetched { .. } | Outcome::Gone | Outcome::Unneeded => (What::Completed, None),
            Outcome::Done if kind.is_fetch() => (What::Completed, None),
            Outcome::Done => (What::Delivered, None),
            Outcome::Superseded | Outcome::Filtered { .. } => (What::Dropped, None),
            Outcome::Retry { due, .. } => (What::Waiting, Some(*due)),
            Outcome::Park { .. } | Outcome::Postpone { .. } | Outcome::GiveBack | Outcome::Unfetched => return None,
        };
        Some(Self { at, what, seq, kind: Some(kind), reason: reason.map(Box::from), due })
    }
}

/// The newest happenings.
#[derive(Debug)]
pub(crate) struct Happenings {
    kept: Mutex<Kept>,
    /// The number of the next one; `None` once there will be none.
    next: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Kept {
    noted: VecDeque<Noted>,
    /// The number of the next one.
    next: u64,
}

impl Default for Happenings {
    fn default() -> Self {
        Self { kept: Mutex::default(), next: watch::Sender::new(Some(0)) }
    }
}

impl Happenings {
    /// Adds what a commit made true.
    pub(crate) fn add(&self, noted: Vec<Noted>) {
        if noted.is_empty() {
            return;
        }
        let next = {
            let mut kept = lock(&self.kept);
            kept.next += noted.len() as u64;
            kept.noted.extend(noted);
            let excess = kept.noted.len().saturating_sub(KEPT);
            kept.noted.drain(..excess);
            kept.next
        };
        self.next.send_if_modified(|told| {
            let goes_on = told.is_some();
            if goes_on {
                *told = Some(next);
            }
            goes_on
        });
    }

    /// Nothing will happen any more.
    pub(crate) fn end(&self) {
        self.next.send_replace(None);
    }

    /// The number of the next one.
    pub(crate) fn next(&self) -> u64 {
        lock(&self.kept).next
    }

    /// Waits until there is something from this number on. Returns whether there will be nothing more.
    pub(crate) async fn wait(&self, from: u64) -> bool {
        let mut told = self.next.subscribe();
        // The sender lives as long as this.
        told.wait_for(|next| next.is_none_or(|next| next > from)).await.map_or(true, |next| next.is_none())
    }

    /// From a number on: at most `limit`, how many are not kept any more, and the number behind the last one.
    pub(crate) fn from(&self, from: u64, limit: usize) -> (Vec<Noted>, u64, u64) {
        let kept = lock(&self.kept);
        let first = kept.next - kept.noted.len() as u64;
        let begin = from.clamp(first, kept.next);
        let skip = usize::try_from(begin - first).unwrap_or(usize::MAX);
        let noted: Vec<Noted> = kept.noted.iter().skip(skip).take(limit).cloned().collect();
        let next = begin + noted.len() as u64;
        (noted, first.saturating_sub(from), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbers: std::ops::Range<i64>) -> Vec<Noted> {
        numbers.map(|seq| Noted::accepted(seq, Timestamp::from_millis(seq))).collect()
    }

    #[test]
    fn what_is_not_kept_any_more_is_counted() {
        let happenings = Happenings::default();
        let most = i64::try_from(KEPT).unwrap();
        happenings.add(noted(0..most));
        happenings.add(noted(most..most + 10));
        let (found, missed, next) = happenings.from(3, 2);
        assert_eq!((found[0].seq, found.len(), missed, next), (10, 2, 7, 12));
        let (found, missed, next) = happenings.from(12, usize::MAX);
        assert_eq!((found[0].seq, found.len(), missed, next), (12, KEPT - 2, 0, KEPT as u64 + 10));
        // Who has seen everything is told nothing, and neither is who asks for what is still to come.
        for from in [next, next + 5] {
            let (found, missed, again) = happenings.from(from, 10);
            assert_eq!((found.len(), missed, again), (0, 0, next));
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_comes_and_by_the_end() {
        let happenings = Happenings::default();
        let (ends, ()) = tokio::join!(happenings.wait(0), async { happenings.add(noted(0..1)) });
        assert!(!ends);
        let (ends, ()) = tokio::join!(happenings.wait(1), async { happenings.end() });
        assert!(ends);
        happenings.add(noted(1..2));
        assert!(happenings.wait(0).await, "the end is not taken back");
        assert_eq!(happenings.from(0, 10).0.len(), 2, "what was before it is told all the same");
    }
}
