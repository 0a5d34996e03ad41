//! Which calls are under way, and which of them hang.
//!
//! A call of a connection that failed lately, and a call that hangs, are **bad**. Bad calls hold at most half of the slots:
//! beyond that no further call of a failed connection goes, and a call that began as a good one and hangs is given up when
//! other work waits. A call that began as a bad one is never given up. So a server that is slow for some connections still
//! serves them. A quarter of that half is not for connections that hung, so that those that fail quickly do not wait for them.

use super::{Key, Moment};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// A call that lasts this long hangs, unless most calls take long.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// However long calls take, one that lasts this long hangs.
const HANGS_AT_LAST: Duration = Duration::from_secs(10);
/// Where even the quicker calls take long, one hangs after so many times as long as those.
const TIMES_AS_LONG: u32 = 3;
/// Calls from whose duration that is told.
const SAMPLE: usize = 32;
/// How often a caller that waits for a slot looks again at the latest.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A call under way, as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// Leave to make one call. It is given back with [`Trust::end`](super::Trust::end).
#[derive(Debug)]
#[must_use = "a call that is never ended holds its slot for ever"]
pub struct Leave {
    pub(super) id: CallId,
    pub(super) who: Key,
    pub(super) since: Moment,
}

impl Leave {
    /// The call that it is for.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }
}

/// What was known of a call's connection when the call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// No failure.
    Clean,
    /// It failed quickly.
    Failed,
    /// It hung.
    Hung,
}

#[derive(Debug)]
struct Call {
    /// `None`: it holds its slot and has not begun.
    since: Option<Moment>,
    record: Record,
    is_given_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    next: u64,
    /// The oldest first.
    calls: BTreeMap<CallId, Call>,
    waiting: usize,
    /// How long the last good calls took.
    took: VecDeque<Duration>,
    /// What follows from that: a call that lasts this long hangs.
    patience: Option<Duration>,
}

/// The slots that bad calls may hold: all of them, or those of connections that hung.
pub(super) fn share(slots: usize, hung: bool) -> usize {
    let share = (slots / 2).max(1);
    if hung { (share - share.div_ceil(4)).max(1) } else { share }
}

impl Slots {
    pub(super) fn under_way(&self) -> usize {
        self.calls.len()
    }

    /// Callers that wait for a slot.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) const fn begin_waiting(&mut self) {
        self.waiting = self.waiting.saturating_add(1);
    }

    pub(super) const fn end_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    pub(super) fn enter(&mut self, who: Key, record: Record, now: Moment) -> Leave {
        let id = CallId(self.next);
        self.next = self.next.wrapping_add(1);
        self.calls.insert(id, Call { since: Some(now), record, is_given_up: false });
        Leave { id, who, since: now }
    }

    /// The call begins at that moment; `None`: not yet.
    pub(super) fn begins(&mut self, id: CallId, at: Option<Moment>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.since = at;
        }
    }

    /// Returns whether it hung.
    pub(super) fn leave(&mut self, id: CallId, now: Moment) -> bool {
        let call = self.calls.remove(&id);
        call.is_some_and(|call| self.hangs(&call, now))
    }

    /// Bad calls.
    pub(super) fn bad(&self, now: Moment) -> usize {
        self.calls.values().filter(|call| call.record != Record::Clean || self.hangs(call, now)).count()
    }

    /// Bad calls that hang, or whose connection hung.
    pub(super) fn hanging(&self, now: Moment) -> usize {
        self.calls.values().filter(|call| call.record == Record::Hung || self.hangs(call, now)).count()
    }

    /// The other calls.
    pub(super) fn brisk(&self, now: Moment) -> usize {
        self.calls.len().saturating_sub(self.bad(now))
    }

    /// A good call took so long.
    pub(super) fn took(&mut self, took: Duration) {
        if self.took.len() == SAMPLE {
            self.took.pop_front();
        }
        self.took.push_back(took);
        let mut quicker: Vec<Duration> = self.took.iter().copied().collect();
        quicker.sort_unstable();
        // A quarter of the good calls took no longer than this. A few slow connections cannot move it.
        let usual = quicker.get(quicker.len() / 4).copied().unwrap_or_default();
        self.patience = Some((usual * TIMES_AS_LONG).clamp(HANGS_AFTER, HANGS_AT_LAST));
    }

    /// Marks and returns the calls that are to be given up.
    pub(super) fn overdue(&mut self, slots: usize, waits: usize, now: Moment) -> Vec<CallId> {
        let given_up = self.calls.values().filter(|call| call.is_given_up).count();
        let excess = self.bad(now).saturating_sub(given_up).saturating_sub(slots / 2).min(waits);
        let hanging: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.record == Record::Clean && !call.is_given_up && self.hangs(call, now))
            .map(|(id, _)| *id)
            .take(excess)
            .collect();
        for id in &hanging {
            if let Some(call) = self.calls.get_mut(id) {
                call.is_given_up = true;
            }
        }
        hanging
    }

    fn hangs(&self, call: &Call, now: Moment) -> bool {
        call.since.is_some_and(|since| now.since(since) >= self.patience.unwrap_or(HANGS_AFTER))
    }
}
