//! How far the fold is, what became of the newest events, and which contents came a short while ago. In memory only, and of
//! bounded size: whoever needs to be certain asks the store.

use crate::{Folded, Position, fold::ContentKey, intake::Told};
use base::sync::lock;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Contents that are remembered.
const RECENT: usize = 32_768;
/// Fates that are remembered.
const FATES: usize = 8_192;

/// See the head of this file.
pub(super) struct Progress {
    folded: watch::Sender<Position>,
    recent: Mutex<Recent>,
    fates: Mutex<VecDeque<(Position, Folded)>>,
    /// How many wait for the fold now, and who is woken by a new one.
    waiting: Mutex<usize>,
    called: Condvar,
    is_ending: AtomicBool,
    /// Whether the fold has come to something that it cannot do now.
    is_stuck: AtomicBool,
    told: OnceLock<Told>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("folded", &self.folded()).finish_non_exhaustive()
    }
}

/// Contents with the position of their newest record, and the order in which they came.
#[derive(Default)]
struct Recent {
    positions: HashMap<ContentKey, Position>,
    order: VecDeque<(ContentKey, Position)>,
}

impl Progress {
    pub(super) fn new(folded: Position) -> Self {
        Self {
            folded: watch::Sender::new(folded),
            recent: Mutex::default(),
            fates: Mutex::default(),
            waiting: Mutex::default(),
            called: Condvar::new(),
            is_ending: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            told: OnceLock::new(),
        }
    }

    /// Everything up to here is in the store.
    pub(super) fn folded(&self) -> Position {
        *self.folded.borrow()
    }

    /// A record was folded.
    pub(super) fn note_fate(&self, position: Position, folded: Folded) {
        let mut fates = lock(&self.fates);
        if fates.len() >= FATES {
            fates.pop_front();
        }
        fates.push_back((position, folded));
    }

    /// What became of a record, where that is remembered.
    pub(super) fn fate(&self, position: Position) -> Option<Folded> {
        let fates = lock(&self.fates);
        let at = fates.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        fates.get(at).map(|(_, folded)| *folded)
    }

    /// The store has everything up to this position.
    pub(super) fn reach(&self, position: Position) {
        self.folded.send_replace(position);
    }

    /// Waits until the fold has come to a position; says whether it has, or was ended before.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub(super) async fn wait(&self, position: Position) -> bool {
        let mut folded = self.folded.subscribe();
        if *folded.borrow_and_update() >= position {
            return true;
        }
        let _waits = Waits::new(self);
        folded.wait_for(|folded| *folded >= position || self.is_ending()).await.is_ok_and(|folded| *folded >= position)
    }

    /// Lets time pass until `until`, less where somebody waits or the end has come; says whether that is so.
    pub(super) fn pause(&self, until: Instant) -> bool {
        let patience = until.saturating_duration_since(Instant::now());
        let waits = lock(&self.waiting);
        let paused = self.called.wait_timeout_while(waits, patience, |waiting| *waiting == 0 && !self.is_ending());
        !paused.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lets time pass after a failure, less where the end has come.
    pub(super) fn rest(&self, patience: Duration) {
        let waits = lock(&self.waiting);
        let paused = self.called.wait_timeout_while(waits, patience, |_| !self.is_ending());
        drop(paused.unwrap_or_else(PoisonError::into_inner));
    }

    /// Has the fold end once everything is folded.
    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        drop(lock(&self.waiting));
        self.called.notify_all();
    }

    /// Nobody need wait any more.
    pub(super) fn ended(&self) {
        self.folded.send_modify(|_| ());
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// The fold does its work; said once after it was stuck.
    pub(super) fn goes_on(&self) {
        if self.is_stuck.swap(false, Ordering::AcqRel) {
            tracing::warn!(code = "fold_goes_on", "accepted events are moved into the inbox's store again");
        }
    }

    /// The fold cannot do its work now, and tries again; said once.
    pub(super) fn stuck(&self, error: &(dyn std::error::Error + 'static)) {
        if !self.is_stuck.swap(true, Ordering::AcqRel) {
            tracing::error!(
                code = "fold_stuck",
                error = base::error::chain(error),
                "accepted events cannot be moved into the inbox's store; they are safe in the journal, and it is tried again"
            );
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }

    /// Remembers a content; says whether it was remembered already.
    pub(super) fn note_content(&self, content: ContentKey, position: Position) -> bool {
        let mut recent = lock(&self.recent);
        let repeats = recent.positions.insert(content, position).is_some();
        recent.order.push_back((content, position));
        while recent.order.len() > RECENT {
            if let Some((content, position)) = recent.order.pop_front()
                && recent.positions.get(&content) == Some(&position)
            {
                recent.positions.remove(&content);
            }
        }
        repeats
    }

    /// Forgets every content: something was deleted, and would be new again.
    pub(super) fn forget_contents(&self) {
        *lock(&self.recent) = Recent::default();
    }

    pub(super) fn set_told(&self, told: Told) {
        self.told.set(told).ok();
    }

    pub(super) fn told(&self) -> Option<&Told> {
        self.told.get()
    }
}

/// Somebody who waits for the fold.
struct Waits<'a>(&'a Progress);

impl<'a> Waits<'a> {
    fn new(progress: &'a Progress) -> Self {
        *lock(&progress.waiting) += 1;
        progress.called.notify_all();
        Self(progress)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        *lock(&self.0.waiting) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_contents_are_remembered() {
        let progress = Progress::new(Position(0));
        let key = |id: i64| ContentKey { id, body: 1 };
        assert!(!progress.note_content(key(0), Position(1)));
        for n in 1..RECENT as u64 {
            assert!(!progress.note_content(key(n.cast_signed()), Position(n + 1)));
        }
        assert!(progress.note_content(key(0), Position(40_000)), "it was still remembered");
        assert!(!progress.note_content(key(-1), Position(40_001)));
        assert!(progress.note_content(key(0), Position(40_002)), "what was repeated is remembered from then on");
        assert!(!progress.note_content(key(1), Position(40_003)), "the oldest is forgotten");
        progress.forget_contents();
        assert!(!progress.note_content(key(0), Position(40_004)));
    }
}
