//! The loop of one stage: takes leases from the inbox, has a handler work on them, keeps them alive meanwhile, ends them.
//!
//! A pool asks for only as many leases as it has room for ([`Room`]). A handler may take several leases at once. A lease
//! is prolonged while it is held; when it is lost, the work goes on for others of its batch, but this one is not
//! settled. What is finished makes room at once, and is settled with whatever else is finished by then ([`Settler`]). On shutdown
//! no new lease is taken, what waits for a hand is given back, work under way may finish for a while, and what is left is given back.

use super::{
    pool_figures::Figures,
    room::Room,
    settler::{Finished, Settler},
};
use async_trait::async_trait;
use base::{clock, error::chain, seldom::Seldom};
use futures_util::{FutureExt as _, future::join_all};
use inbox::{Error, Lease, Merging, Outcome, Queue, Stage};
use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a lease lasts unless it is prolonged; also how long work of a hung process stays with it.
const LEASE: Duration = Duration::from_mins(1);
/// How often a lease under work is prolonged.
const RENEWAL: Duration = Duration::from_secs(20);
/// Longest sleep without looking: commands of other processes (a replay) wake nobody.
const POLL: Duration = Duration::from_secs(2);
/// Between two tries of work for which the disk has no room.
const SHORT_OF_ROOM: Duration = Duration::from_secs(30);
/// Between two tries of work that the store failed in.
const AFTER_STORE_FAILURE: Duration = Duration::from_secs(5);
/// While no hand is free: how often the handler is told so.
const CROWDED_FOR: Duration = Duration::from_millis(250);
/// After the inbox failed, before it is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Bytes of a body that count for one of them; a longer body counts for several.
const BYTES_OF_ONE: usize = 4 * 1024;

/// What is done with the leases of one stage.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Works on one lease and says how it ends. Must not settle it.
    ///
    /// # Errors
    /// Those of the inbox: the lease is given back, or lost.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the lease is then given back and the work done again.
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error>;

    /// Works on several leases and says how each ends, in their order: one after the other, unless the handler knows better.
    ///
    /// # Cancel safety
    /// As [`handle`](Self::handle).
    async fn handle_many(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        let mut outcomes = Vec::with_capacity(leases.len());
        for lease in leases {
            outcomes.push(self.handle(lease).await);
        }
        outcomes
    }

    /// How many leases it likes to work on at once; at least 1.
    fn batch(&self) -> usize {
        1
    }

    /// How events that wait together are merged into one lease; `None`: each has its own.
    fn merging(&self) -> Option<&Merging> {
        None
    }

    /// For how long no lease need be taken, because all of them would have to wait; and how many may be taken at once else.
    fn room(&self) -> (Option<Duration>, usize) {
        (None, usize::MAX)
    }

    /// All `hands` of the pool are at work, and there may be more to do: work that hangs is to let other work go first.
    fn crowded(&self, _hands: usize) {}
}

/// The loop of one stage.
pub struct Pool {
    /// Which stage.
    pub stage: Stage,
    /// Leases, or batches of them, under work at once; at least 1.
    pub concurrency: usize,
    /// Where work comes from.
    pub queue: Arc<dyn Queue>,
    /// What is done.
    pub handler: Arc<dyn Handler>,
    /// What is counted.
    pub figures: Figures,
}

impl Pool {
    /// Runs until `draining` is cancelled; then lets work under way finish for `grace` and gives the rest back.
    pub async fn run(self, draining: CancellationToken, grace: Duration) {
        let tasks = TaskTracker::new();
        let (finished, settling) = mpsc::unbounded_channel();
        let room = Arc::new(Room::new(self.concurrency, self.handler.batch()));
        let abandon = CancellationToken::new();
        let work = Work { pool: self, room, finished, draining, abandon: abandon.clone() };
        tasks.spawn(work.settler().run(settling, tasks.clone()));
        let mut taking =
            Taking { work: Arc::new(work), tasks: tasks.clone(), may_be_more: false, failures: Seldom::default() };
        while taking.go_on().await {}
        // The settler ends when nobody is left to finish something.
        drop(taking);
        tasks.close();
        if time::timeout(grace, tasks.wait()).await.is_err() {
            abandon.cancel();
            tasks.wait().await;
        }
    }
}

/// The side of a pool that takes leases.
struct Taking {
    work: Arc<Work>,
    tasks: TaskTracker,
    may_be_more: bool,
    failures: Seldom,
}

impl Taking {
    /// Takes leases once there is room, and waits until there may be more; returns whether there is more to come.
    async fn go_on(&mut self) -> bool {
        let work = Arc::clone(&self.work);
        let Work { pool, draining, .. } = &*work;
        let is_open = tokio::select! {
            () = draining.cancelled() => return false,
            is_open = self.room() => is_open,
        };
        if !is_open {
            return false;
        }
        // Not under `select!`: leases that were given out must not be dropped on the way.
        let wait = self.take().await;
        self.may_be_more = wait.may_be_more;
        tokio::select! {
            () = draining.cancelled() => return false,
            () = pool.queue.wake(&pool.stage), if wait.wakes => {}
            () = time::sleep(wait.at_most) => {}
        }
        true
    }

    /// Waits for room. While there is none, and there may be work for it, the handler is told so. Returns whether there will be any.
    ///
    /// # Cancel safety
    /// Loses a wake-up at most, and every look at the inbox follows room.
    async fn room(&self) -> bool {
        let Work { pool, room, .. } = &*self.work;
        let mut may_be_more = self.may_be_more;
        let mut free = pin!(room.wait());
        loop {
            tokio::select! {
                biased;
                free = &mut free => return free.is_ok(),
                () = pool.queue.wake(&pool.stage), if !may_be_more => may_be_more = true,
                () = time::sleep(CROWDED_FOR), if may_be_more || room.is_waited_in() => pool.handler.crowded(room.most()),
            }
        }
    }

    /// Leases what there is room for and starts work on it; says how long to wait before the next look.
    ///
    /// # Cancel safety
    /// Not cancel safe: leases may be lost until they expire.
    async fn take(&self) -> Wait {
        let Work { pool, room, .. } = &*self.work;
        let (pause, most) = pool.handler.room();
        if let Some(pause) = pause {
            return Wait { wakes: false, at_most: pause.min(POLL), may_be_more: false };
        }
        // Only this takes room, so what is free now is free below. Work may have become slow meanwhile, and then there may be none.
        let free = room.free().min(most.max(1));
        if free == 0 {
            return Wait { wakes: false, at_most: Duration::ZERO, may_be_more: true };
        }
        let claimed = match pool.queue.claim_merged(&pool.stage, free, LEASE, pool.handler.merging()).await {
            Ok(claimed) => claimed,
            Err(error) => {
                if self.failures.is_due() {
                    tracing::error!(code = "work_not_taken", stage = %pool.stage, error = %chain(&error), "no work can be taken from the inbox; said once a minute");
                }
                return Wait { wakes: false, at_most: AFTER_FAILURE, may_be_more: false };
            }
        };
        let is_full = claimed.leases.len() == free;
        let mut leases = claimed.leases.into_iter();
        let batch = pool.handler.batch().max(1);
        while leases.len() > 0 {
            let some: Vec<Lease> = leases.by_ref().take(batch).collect();
            let Some(room) = self.room_of(&some, batch, leases.len()) else { break };
            let work = Arc::clone(&self.work);
            self.tasks.spawn(async move { work.run(some, room).await });
        }
        if is_full {
            // There may be more; go on as soon as there is room.
            return Wait { wakes: false, at_most: Duration::ZERO, may_be_more: true };
        }
        let at_most = claimed.next_due.map_or(POLL, |due| due.since(clock::now())).min(POLL);
        Wait { wakes: true, at_most: at_most.max(Duration::from_millis(1)), may_be_more: false }
    }

    /// The room that leases take, while so many others still need some of what is free. Long bodies take more, so that batches
    /// of them do not fill the memory.
    fn room_of(&self, leases: &[Lease], batch: usize, others: usize) -> Option<OwnedSemaphorePermit> {
        let weight = |lease: &Lease| if batch == 1 { 1 } else { lease.body.len().div_ceil(BYTES_OF_ONE).max(1) };
        self.work.room.take(leases.iter().map(weight).sum(), others)
    }
}

/// The side of a pool that works.
struct Work {
    pool: Pool,
    room: Arc<Room>,
    /// Where finished work goes.
    finished: mpsc::UnboundedSender<Finished>,
    /// Cancelled when no more work is to begin.
    draining: CancellationToken,
    /// Cancelled when work under way is to be given back.
    abandon: CancellationToken,
}

impl Work {
    fn settler(&self) -> Settler {
        Settler {
            stage: self.pool.stage.clone(),
            queue: Arc::clone(&self.pool.queue),
            figures: self.pool.figures.clone(),
            room: Arc::clone(&self.room),
            patience: LEASE,
            abandon: self.abandon.clone(),
        }
    }

    /// Works on leases to their end, whatever that is.
    async fn run(&self, leases: Vec<Lease>, room: OwnedSemaphorePermit) {
        // A panic ends this attempt, and nothing else.
        let handled = AssertUnwindSafe(self.handle(&leases, &room)).catch_unwind();
        let outcomes = tokio::select! {
            handled = handled => match handled {
                Ok(outcomes) => outcomes,
                Err(_panic) => {
                    join_all(leases.iter().map(|lease| self.lose(lease))).await;
                    return;
                }
            },
            outcomes = self.hold(&leases) => outcomes,
            () = self.abandon.cancelled() => leases.iter().map(|_| Ok(Outcome::GiveBack)).collect(),
        };
        let ended = leases.into_iter().zip(outcomes).filter_map(|(lease, outcome)| self.ends(lease, outcome)).collect();
        drop(room);
        // The settler is there for as long as this is.
        self.finished.send(ended).unwrap_or_default();
    }

    /// Works on leases once there are hands. What still waits for one when no more work is to begin is given back, and so is what
    /// waited for so long that its lease may be over.
    async fn handle(&self, leases: &[Lease], room: &OwnedSemaphorePermit) -> Vec<Result<Outcome, Error>> {
        let hands = tokio::select! {
            biased;
            hands = self.room.hand(room, RENEWAL) => hands,
            () = self.draining.cancelled() => None,
        };
        let Some(_hands) = hands else { return leases.iter().map(|_| Ok(Outcome::GiveBack)).collect() };
        let begin = Instant::now();
        let outcomes = match leases {
            [lease] => vec![self.pool.handler.handle(lease).await],
            leases => self.pool.handler.handle_many(leases).await,
        };
        self.room.took(begin.elapsed());
        outcomes
    }

    /// How a lease ends as its work ended. `None`: it is held no longer.
    fn ends(&self, lease: Lease, outcome: Result<Outcome, Error>) -> Option<(Lease, Outcome)> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Error::Full(_)) => short_of_room(),
            Err(error @ (Error::Store(_) | Error::Away(_))) => self.store_failed(&lease, &error),
            Err(error) => {
                self.pool.figures.unsettled(&self.pool.stage, &lease, &error);
                return None;
            }
        };
        Some((lease, outcome))
    }

    /// Work that the store failed in waits a little. Given back at once, work on a page that cannot be read would turn in a
    /// circle.
    fn store_failed(&self, lease: &Lease, error: &Error) -> Outcome {
        tracing::warn!(
            code = "work_ended_by_store",
            stage = %self.pool.stage,
            entry = lease.seq.0,
            event.id = %lease.entry.event_id,
            error = %chain(error),
            "work on an entry was ended by the inbox's store; it is done again"
        );
        let reason = "the inbox's store failed while this was worked on";
        Outcome::Postpone { due: clock::now().after(AFTER_STORE_FAILURE), reason: reason.to_owned() }
    }

    /// Lets go of a lease whose work panicked. It expires soon, and that counts: an entry that loses its lease again and
    /// again is parked by the inbox.
    async fn lose(&self, lease: &Lease) {
        self.pool.figures.panicked_once();
        tracing::error!(
            code = "work_panicked",
            stage = %self.pool.stage,
            entry = lease.seq.0,
            event.id = %lease.entry.event_id,
            attempts = lease.attempts,
            "work on an entry panicked: a defect, the line before this one says where; the entry is tried again a few times"
        );
        if let Err(error) = self.pool.queue.renew(lease, AFTER_FAILURE).await {
            tracing::warn!(code = "lease_not_ended", stage = %self.pool.stage, entry = lease.seq.0, event.id = %lease.entry.event_id, error = %chain(&error), "the lease of that entry ends by itself");
        }
    }

    /// Prolongs leases for as long as it is polled. Resolves when none of them is held any more, with what was said of each.
    async fn hold(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        let mut lost: Vec<Option<Error>> = leases.iter().map(|_| None).collect();
        while lost.iter().any(Option::is_none) {
            time::sleep(RENEWAL).await;
            let held = leases.iter().zip(&mut lost).filter(|(_, lost)| lost.is_none());
            // At once, so that they share a commit.
            let renewed =
                held.map(|(lease, lost)| async move { (lease, lost, self.pool.queue.renew(lease, LEASE).await) });
            for (lease, lost, renewed) in join_all(renewed).await {
                match renewed {
                    Ok(()) => {}
                    Err(error @ (Error::LeaseLost(_) | Error::Closed)) => *lost = Some(error),
                    Err(error) => {
                        tracing::warn!(code = "lease_not_prolonged", stage = %self.pool.stage, entry = lease.seq.0, event.id = %lease.entry.event_id, error = %chain(&error), "a lease could not be prolonged yet");
                    }
                }
            }
        }
        lost.into_iter().map(|error| Err(error.unwrap_or(Error::Closed))).collect()
    }
}

/// Work that needs room on the disk waits: what is left is for events.
fn short_of_room() -> Outcome {
    let reason = "the inbox's disk has no room for accounts beside what inbox.min_free_disk keeps for events";
    Outcome::Postpone { due: clock::now().after(SHORT_OF_ROOM), reason: reason.to_owned() }
}

/// What to wait for before the next look.
struct Wait {
    wakes: bool,
    at_most: Duration,
    /// Whether there may be more to do than what was taken.
    may_be_more: bool,
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
