//! What callers need to know without asking the server: how much there is to do, which stage has work, whether the server takes
//! events; and which leases this receiver has given out.

use super::tally::{Changes, Tally};
use crate::{
    Error, Hold, Receipt, Token,
    fold::Record,
    happenings::{Happenings, Noted},
    kind::Kind,
};
use base::sync::lock;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot, watch};

/// Events waiting at most; beyond it callers wait for room.
pub(super) const QUEUE: usize = 4096;
/// A lease whose time ended so long ago, and that nobody works on, has been found by another.
const FORGET_AFTER: Duration = Duration::from_hours(1);
/// So many leases are remembered before old ones are looked for.
const MANY: usize = 50_000;

/// An event, and who waits for it.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) record: Record,
    pub(super) reply: oneshot::Sender<Result<Receipt, Error>>,
}

/// What one transaction changed; applied only after its commit.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) numbers: Changes,
    /// Kinds that have new work.
    pub(super) due: BTreeSet<Kind>,
    /// What those are told who look on.
    pub(super) happened: Vec<Noted>,
}

/// A lease that this receiver gave out.
#[derive(Clone, Copy, Debug)]
struct Given {
    seq: i64,
    kind: Kind,
    until: Instant,
    /// Somebody here works on it.
    is_held: bool,
}

/// Shared by the tasks of a store and its callers.
#[derive(Debug)]
pub(super) struct Shared {
    tally: Mutex<Tally>,
    wakers: Mutex<BTreeMap<Kind, Arc<Notify>>>,
    given: Mutex<HashMap<Token, Given>>,
    /// What happened a short while ago.
    pub(super) happenings: Happenings,
    /// Kinds that have new work, of which the other receivers are not told yet.
    pub(super) news: watch::Sender<BTreeSet<Kind>>,
    closed: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            tally: Mutex::default(),
            wakers: Mutex::default(),
            given: Mutex::default(),
            happenings: Happenings::default(),
            news: watch::Sender::new(BTreeSet::new()),
            closed: watch::Sender::new(false),
        }
    }
}

impl Shared {
    /// Applies what a committed transaction changed.
    pub(super) fn apply(&self, xid: u64, touched: Touched) {
        lock(&self.tally).committed(xid, touched.numbers);
        self.happenings.add(touched.happened);
        for kind in &touched.due {
            self.waker(*kind).notify_one();
        }
        if !touched.due.is_empty() {
            self.news.send_if_modified(|news| {
                let before = news.len();
                news.extend(touched.due);
                news.len() > before
            });
        }
    }

    /// The numbers of stages.
    pub(super) fn tally<T>(&self, look: impl FnOnce(&mut Tally) -> T) -> T {
        look(&mut lock(&self.tally))
    }

    /// Where a stage's worker waits. A notification that nobody waits for is kept for the next to wait.
    pub(super) fn waker(&self, kind: Kind) -> Arc<Notify> {
        Arc::clone(lock(&self.wakers).entry(kind).or_default())
    }

    /// Has every stage's worker look.
    pub(super) fn wake_all(&self) {
        lock(&self.wakers).values().for_each(|waker| waker.notify_one());
    }

    /// A new token.
    pub(super) fn token() -> Token {
        Token(fastrand::i64(1..))
    }

    /// A lease is given out: held until what this returns is dropped.
    pub(super) fn give(self: &Arc<Self>, token: Token, seq: i64, kind: Kind, lease_for: Duration) -> Hold {
        let now = Instant::now();
        let until = now.checked_add(lease_for).unwrap_or(now);
        let mut given = lock(&self.given);
        if given.len() >= MANY {
            given.retain(|_, lease| lease.is_held || now.duration_since(lease.until) < FORGET_AFTER);
        }
        given.insert(token, Given { seq, kind, until, is_held: true });
        Arc::new(Held { token, shared: Arc::clone(self) })
    }

    /// A lease has ended.
    pub(super) fn end(&self, token: Token) {
        lock(&self.given).remove(&token);
    }

    /// Whether somebody here works under this lease.
    pub(super) fn is_held(&self, token: Token) -> bool {
        lock(&self.given).get(&token).is_some_and(|lease| lease.is_held)
    }

    /// Every lease that was given out here and has not ended here.
    pub(super) fn given(&self) -> Vec<(Token, i64, Kind)> {
        lock(&self.given).iter().map(|(token, lease)| (*token, lease.seq, lease.kind)).collect()
    }

    pub(super) fn close(&self) -> bool {
        !self.closed.send_replace(true)
    }

    /// Tells when the store is closed, or when nobody has it any more.
    pub(super) fn end_of_all(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }
}

/// See [`Hold`].
#[derive(Debug)]
struct Held {
    token: Token,
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = lock(&self.shared.given).get_mut(&self.token) {
            lease.is_held = false;
        }
    }
}
