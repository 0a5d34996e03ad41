//! What callers need to know without asking the store: how much there is to do, which stage has work, whether the store
//! is sound; and what the store needs to know of its callers: which leases they hold.

use super::{
    codes::Kind,
    happenings::{Happenings, Noted},
};
use crate::{Hold, Token, busy::Busy, numbers::Numbers, rules::Standing};
use base::sync::lock;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// What one transaction changed; applied only after its commit.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// By kind: by how much the numbers of stages changed.
    changed: BTreeMap<Kind, Numbers>,
    /// The numbers themselves, counted in this transaction; `changed` is what changed since.
    counted: Option<Counted>,
    /// Kinds that have new work.
    due: Vec<Kind>,
    /// What those are told who look on.
    pub(super) happened: Vec<Noted>,
}

impl Touched {
    /// The numbers of stages at this point of the transaction.
    pub(super) fn counted(&mut self, counted: Counted) {
        self.changed.clear();
        self.counted = Some(counted);
    }

    /// A stage of this kind stands differently than before; `None`: it was not there, or is not any more.
    pub(super) fn stands(&mut self, kind: Kind, was: Option<Standing>, is: Option<Standing>) {
        self.changed.entry(kind).or_default().stands(was, is);
    }

    /// A stage of this kind became due.
    pub(super) fn due(&mut self, kind: Kind) {
        if !self.due.contains(&kind) {
            self.due.push(kind);
        }
    }
}

/// The numbers of every kind.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// SQLite's `data_version` of the writer's connection when they were last counted. It changes when others write.
    pub(super) version: i64,
    pub(super) by_kind: BTreeMap<Kind, Numbers>,
}

/// Shared by the writer and the callers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    counted: Mutex<Counted>,
    wakers: Mutex<BTreeMap<Kind, Arc<Notify>>>,
    suspect: AtomicBool,
    /// What the writer is at.
    pub(super) writer: Busy,
    held: Mutex<BTreeSet<Token>>,
    /// What happened a short while ago.
    pub(super) happenings: Happenings,
}

impl Shared {
    /// Applies what a committed transaction changed.
    pub(super) fn apply(&self, touched: Touched) {
        if let Some(counted) = touched.counted {
            self.set_counted(counted);
        }
        if !touched.changed.is_empty() {
            let mut counted = lock(&self.counted);
            for (kind, by) in touched.changed {
                *counted.by_kind.entry(kind).or_default() += by;
            }
        }
        self.happenings.add(touched.happened);
        for kind in touched.due {
            self.waker(kind).notify_one();
        }
    }

    /// Replaces the numbers by counted ones. Nobody may write between the count and this.
    pub(super) fn set_counted(&self, counted: Counted) {
        *lock(&self.counted) = counted;
    }

    /// See [`Counted::version`].
    pub(super) fn counted_at(&self) -> i64 {
        lock(&self.counted).version
    }

    /// The numbers of every kind that ever had a stage.
    pub(super) fn numbers(&self) -> BTreeMap<Kind, Numbers> {
        lock(&self.counted).by_kind.clone()
    }

    /// Unfinished entries: those of the stage that has most.
    pub(super) fn backlog(&self) -> u64 {
        let most = lock(&self.counted).by_kind.values().map(|numbers| numbers.unfinished).max().unwrap_or(0);
        u64::try_from(most).unwrap_or(0)
    }

    /// Where a stage's worker waits. A notification that nobody waits for is kept for the next to wait.
    pub(super) fn waker(&self, kind: Kind) -> Arc<Notify> {
        Arc::clone(lock(&self.wakers).entry(kind).or_default())
    }

    /// Has every stage's worker look.
    pub(super) fn wake_all(&self) {
        lock(&self.wakers).values().for_each(|waker| waker.notify_one());
    }

    /// A new token, held until what comes with it is dropped.
    pub(super) fn hold(self: &Arc<Self>) -> (Token, Hold) {
        let token = Token(fastrand::i64(1..));
        lock(&self.held).insert(token);
        (token, Arc::new(HeldToken { token, shared: Arc::clone(self) }))
    }

    pub(super) fn is_held(&self, token: Token) -> bool {
        lock(&self.held).contains(&token)
    }

    pub(super) fn set_suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Release);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }
}

/// See [`Hold`].
#[derive(Debug)]
struct HeldToken {
    token: Token,
    shared: Arc<Shared>,
}

impl Drop for HeldToken {
    fn drop(&mut self) {
        lock(&self.shared.held).remove(&self.token);
    }
}
