//! The loop of one stage: takes leases from the inbox, has a handler work on them, keeps them alive meanwhile, ends them.
//!
//! A pool asks for only as many leases as it has free permits. A handler may take several leases at once. A lease is
//! prolonged while its work is under way; when it is lost, the work goes on for others of its batch, but this one is not
//! settled. On shutdown no new lease is taken, work under way may finish for a while, and what is left is given back.

use async_trait::async_trait;
use base::{clock, error::chain};
use futures_util::{FutureExt as _, future::join_all};
use inbox::{Error, Lease, Outcome, Queue, Stage};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
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

    /// For how long no lease need be taken, because all of them would have to wait; and how many may be taken at once else.
    fn room(&self) -> (Option<Duration>, usize) {
        (None, usize::MAX)
    }

    /// All `hands` of the pool are at work, and there may be more to do: work that hangs is to let other work go first.
    fn crowded(&self, _hands: usize) {}
}

/// What pools count.
#[derive(Clone, Debug)]
pub struct Figures {
    leases_lost: Counter,
    panics: Counter,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self { leases_lost: Counter::default(), panics: Counter::default() };
        registry.register("leases_lost", "Leases that expired before they were settled", this.leases_lost.clone());
        registry.register("work_panics", "Attempts that ended in a panic: a defect", this.panics.clone());
        this
    }
}

/// The loop of one stage.
pub struct Pool {
    /// Which stage.
    pub stage: Stage,
    /// Leases under work at once; at least 1.
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
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(this.concurrency.max(1)));
        let (tasks, abandon) = (TaskTracker::new(), CancellationToken::new());
        let mut may_be_more = false;
        loop {
            let permit = tokio::select! {
                () = draining.cancelled() => break,
                permit = this.permit(&permits, may_be_more) => permit,
            };
            let Some(permit) = permit else { break };
            // Not under `select!`: leases that were given out must not be dropped on the way.
            let wait = this.take(permit, &permits, &tasks, &abandon).await;
            may_be_more = wait.may_be_more;
            tokio::select! {
                () = draining.cancelled() => break,
                () = this.queue.wake(&this.stage), if wait.wakes => {}
                () = time::sleep(wait.at_most) => {}
            }
        }
        tasks.close();
        if time::timeout(grace, tasks.wait()).await.is_err() {
            abandon.cancel();
            tasks.wait().await;
        }
    }

    /// Waits for a free hand. While there is none, and there may be work for it, the handler is told so.
    ///
    /// # Cancel safety
    /// Loses a wake-up at most, and every look at the inbox follows a permit.
    async fn permit(&self, permits: &Arc<Semaphore>, mut may_be_more: bool) -> Option<OwnedSemaphorePermit> {
        let mut permit = pin!(Arc::clone(permits).acquire_owned());
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.ok(),
                () = self.queue.wake(&self.stage), if !may_be_more => may_be_more = true,
                () = time::sleep(CROWDED_FOR), if may_be_more => self.handler.crowded(self.concurrency),
            }
        }
    }

    /// Leases what there is room for and starts work on it; says how long to wait before the next look.
    ///
    /// # Cancel safety
    /// Not cancel safe: leases may be lost until they expire.
    async fn take(
        self: &Arc<Self>,
        first: OwnedSemaphorePermit,
        permits: &Arc<Semaphore>,
        tasks: &TaskTracker,
        abandon: &CancellationToken,
    ) -> Wait {
        let (pause, most) = self.handler.room();
        if let Some(pause) = pause {
            return Wait { wakes: false, at_most: pause.min(POLL), may_be_more: false };
        }
        // Only this loop takes permits, so those that are free now are free below.
        let room = (permits.available_permits() + 1).min(most.max(1));
        drop(first);
        let claimed = match self.queue.claim(&self.stage, room, LEASE).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(code = "work_not_taken", stage = %self.stage, error = %chain(&error), "no work can be taken from the inbox");
                return Wait { wakes: false, at_most: AFTER_FAILURE, may_be_more: false };
            }
        };
        let is_full = claimed.leases.len() == room;
        let mut leases = claimed.leases.into_iter().peekable();
        while leases.peek().is_some() {
            let batch: Vec<Lease> = leases.by_ref().take(self.handler.batch().max(1)).collect();
            let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
            let Ok(permit) = Arc::clone(permits).acquire_many_owned(count).await else { break };
            let (this, abandon) = (Arc::clone(self), abandon.clone());
            tasks.spawn(async move {
                this.work(batch, &abandon).await;
                drop(permit);
            });
        }
        if is_full {
            // There may be more; go on as soon as a permit is free.
            return Wait { wakes: false, at_most: Duration::ZERO, may_be_more: true };
        }
        let at_most = claimed.next_due.map_or(POLL, |due| due.since(clock::now())).min(POLL);
        Wait { wakes: true, at_most: at_most.max(Duration::from_millis(1)), may_be_more: false }
    }

    /// Works on leases to their end, whatever that is.
    async fn work(&self, leases: Vec<Lease>, abandon: &CancellationToken) {
        // A panic ends this attempt, and nothing else.
        let handled = AssertUnwindSafe(self.handle(&leases)).catch_unwind();
        let outcomes = tokio::select! {
            handled = handled => match handled {
                Ok(outcomes) => outcomes,
                Err(_panic) => {
                    join_all(leases.iter().map(|lease| self.lose(lease))).await;
                    return;
                }
            },
            outcomes = self.hold(&leases) => outcomes,
            () = abandon.cancelled() => leases.iter().map(|_| Ok(Outcome::GiveBack)).collect(),
        };
        self.end(&leases, outcomes, abandon).await;
    }

    async fn handle(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        match leases {
            [lease] => vec![self.handler.handle(lease).await],
            leases => self.handler.handle_many(leases).await,
        }
    }

    /// Ends leases as their work ended.
    async fn end(&self, leases: &[Lease], outcomes: Vec<Result<Outcome, Error>>, abandon: &CancellationToken) {
        let mut ended = Vec::with_capacity(leases.len());
        for (lease, outcome) in leases.iter().zip(outcomes) {
            match outcome {
                Ok(outcome) => ended.push((lease, outcome)),
                Err(Error::Full(_)) => ended.push((lease, short_of_room())),
                Err(error @ (Error::Store(_) | Error::Away(_))) => {
                    ended.push((lease, self.store_failed(lease, &error)))
                }
                Err(error) => self.unsettled(lease, &error),
            }
        }
        self.settle(ended, abandon).await;
    }

    /// Counts and logs work that counts for nothing.
    fn unsettled(&self, lease: &Lease, error: &Error) {
        self.figures.leases_lost.inc();
        tracing::warn!(
            code = "lease_lost",
            stage = %self.stage,
            entry = lease.seq.0,
            event.id = %lease.entry.event_id,
            error = %chain(error),
            "work on an entry could not be settled; it is done again"
        );
    }

    /// Work that the store failed in waits a little. Given back at once, work on a page that cannot be read would turn in a
    /// circle.
    fn store_failed(&self, lease: &Lease, error: &Error) -> Outcome {
        tracing::warn!(
            code = "work_ended_by_store",
            stage = %self.stage,
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
        self.figures.panics.inc();
        tracing::error!(
            code = "work_panicked",
            stage = %self.stage,
            entry = lease.seq.0,
            event.id = %lease.entry.event_id,
            attempts = lease.attempts,
            "work on an entry panicked: a defect, the line before this one says where; the entry is tried again a few times"
        );
        if let Err(error) = self.queue.renew(lease, AFTER_FAILURE).await {
            tracing::warn!(code = "lease_not_ended", stage = %self.stage, entry = lease.seq.0, event.id = %lease.entry.event_id, error = %chain(&error), "the lease of that entry ends by itself");
        }
    }

    /// Settles; while the store fails, again and again for as long as the lease may last: what is done need not be done
    /// twice because the disk was full for a moment.
    async fn settle(&self, mut ended: Vec<(&Lease, Outcome)>, abandon: &CancellationToken) {
        let give_up = Instant::now() + LEASE;
        while !ended.is_empty() {
            let settled = self.queue.settle(&ended).await;
            let may_go_on = Instant::now() < give_up && !abandon.is_cancelled();
            let mut left = Vec::new();
            for ((lease, outcome), settled) in ended.into_iter().zip(settled) {
                match settled {
                    Ok(()) => {}
                    Err(Error::Full(_) | Error::Store(_) | Error::Away(_)) if may_go_on => left.push((lease, outcome)),
                    Err(error) => self.unsettled(lease, &error),
                }
            }
            if !left.is_empty() {
                time::sleep(AFTER_FAILURE).await;
            }
            ended = left;
        }
    }

    /// Prolongs leases for as long as it is polled. Resolves when none of them is held any more, with what was said of each.
    async fn hold(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        let mut lost: Vec<Option<Error>> = leases.iter().map(|_| None).collect();
        while lost.iter().any(Option::is_none) {
            time::sleep(RENEWAL).await;
            for (lease, lost) in leases.iter().zip(&mut lost).filter(|(_, lost)| lost.is_none()) {
                match self.queue.renew(lease, LEASE).await {
                    Ok(()) => {}
                    Err(error @ (Error::LeaseLost(_) | Error::Closed)) => *lost = Some(error),
                    Err(error) => {
                        tracing::warn!(code = "lease_not_prolonged", stage = %self.stage, entry = lease.seq.0, event.id = %lease.entry.event_id, error = %chain(&error), "a lease could not be prolonged yet");
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
