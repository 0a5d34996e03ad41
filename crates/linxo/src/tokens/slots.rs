//! The tokens that are held, by user: one slot each, for so many users.
//!
//! A caller that needs a token while it is being asked for waits at its slot for the one answer. When there are too many
//! slots, those go first whose last use is longest ago. After a reload with the same credentials the next client goes on with
//! the slots of the one before.
//!
//! By hand and not by a cache such as `moka`: here an answer also serves all who waited for it, even one that ends at once, and a
//! refusal is kept for a few seconds. That is all there is to these lines, and no cache does it.

use super::{refusal::Refusal, token::Token};
use base::sync::lock;
use event::UserId;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Users whose tokens are kept.
const MOST: usize = 10_000;

/// Whose token: a user's, or the client's own.
pub(super) type Key = Option<UserId>;

/// Slots by user.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_user: Mutex<HashMap<Key, Arc<Slot>>>,
    /// Counts uses, to tell which slot was used longest ago.
    uses: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Held while a token is asked for.
    pub(super) current: tokio::sync::Mutex<Option<Kept>>,
    used: AtomicU64,
}

/// The answer to a request for a token.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) result: Result<Token, Refusal>,
    /// When it came.
    pub(super) came: Instant,
    pub(super) until: Instant,
}

impl Kept {
    /// Whether it serves a caller that came at that moment. It serves every caller until it ends. One that ends at once
    /// still serves the callers that waited for it.
    pub(super) fn serves(&self, caller_came: Instant) -> bool {
        Instant::now() < self.until || caller_came < self.came
    }
}

impl Slots {
    /// The slot of a user; made where there is none.
    pub(super) fn slot(&self, key: Key) -> Arc<Slot> {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock();
        if slots.len() >= MOST && !slots.contains_key(&key) {
            let mut uses: Vec<u64> = slots.values().map(|slot| slot.used.load(Ordering::Relaxed)).collect();
            // An eighth at once, so that the search is rare.
            let (_, oldest_kept, _) = uses.select_nth_unstable(MOST / 8);
            let oldest_kept = *oldest_kept;
            slots.retain(|_, slot| slot.used.load(Ordering::Relaxed) >= oldest_kept || Arc::strong_count(slot) > 1);
        }
        let slot = slots.entry(key).or_default();
        slot.used.store(use_number, Ordering::Relaxed);
        Arc::clone(slot)
    }

    /// Whether a token is held that lasts for a while yet.
    pub(super) fn holds(&self, key: &Key) -> bool {
        let Some(slot) = self.lock().get(key).map(Arc::clone) else { return false };
        // One that is asked for right now is not held yet.
        slot.current.try_lock().is_ok_and(|current| {
            current.as_ref().is_some_and(|kept| kept.result.is_ok() && Instant::now() < kept.until)
        })
    }

    /// Forgets what is held for users.
    pub(super) fn forget(&self, users: Vec<String>) {
        let mut slots = self.lock();
        for user in users {
            slots.remove(&Some(UserId::new(user)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        lock(&self.by_user)
    }
}
