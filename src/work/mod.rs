//! Works off the inbox: leases stages, completes entries, delivers them, settles the lease.
//!
//! One loop for each stage, each with its own permits, so that a slow sink or a slow API holds up nothing else. A loop asks
//! the inbox for only as many leases as it has free permits; order within a connection is the inbox's promise. A lease is
//! prolonged while its work is under way; when it is lost, the work is dropped and not settled. On shutdown no new lease is
//! taken, work under way may finish for a while, and what is left is given back.

mod complete;
mod deliver;
mod listing;
mod retry;

pub use complete::Completer;
pub use deliver::Route;
pub use retry::Policy;

use crate::{
    inbox::{Error, Inbox, Lease, Outcome, Stage},
    metrics::Metrics,
};
use async_trait::async_trait;
use base::{clock, error::chain};
use futures_util::FutureExt as _;
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

/// How long a lease lasts unless it is prolonged; also how long work of a hung process stays with it.
const LEASE: Duration = Duration::from_mins(1);
/// How often a lease under work is prolonged.
const RENEWAL: Duration = Duration::from_secs(20);
/// Longest sleep without looking: commands of other processes (a replay) wake nobody.
const POLL: Duration = Duration::from_secs(2);
/// Between two tries of work for which the disk has no room.
const SHORT_OF_ROOM: Duration = Duration::from_secs(30);
/// After the inbox failed, before it is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is done with the leases of one stage.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Works on one lease and says how it ends. Must not settle it.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the lease is then given back and the work done again.
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error>;

    /// For how long no lease need be taken, because all of them would have to wait.
    fn pause(&self) -> Option<Duration> {
        None
    }
}

/// The loop of one stage.
pub struct StageLoop {
    /// Which stage.
    pub stage: Stage,
    /// Its name in logs.
    pub name: String,
    /// Leases under work at once; at least 1.
    pub concurrency: usize,
    /// Where work comes from.
    pub inbox: Arc<dyn Inbox>,
    /// What is done.
    pub handler: Arc<dyn Handler>,
    /// The service's figures.
    pub metrics: Arc<Metrics>,
}

impl StageLoop {
    /// Runs until `stop` is cancelled; then lets work under way finish for `grace` and gives the
    /// rest back.
    pub async fn run(self, stop: CancellationToken, grace: Duration) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(this.concurrency.max(1)));
        let mut tasks: JoinSet<()> = JoinSet::new();
        let cut = CancellationToken::new();
        loop {
            while let Some(ended) = tasks.try_join_next() {
                report(ended);
            }
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            // Not under `select!`: leases that were given out must not be dropped on the way.
            let wait = this.take(permit, &permits, &mut tasks, &cut).await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = this.inbox.wake(this.stage), if wait.wakes => {}
                () = time::sleep(wait.at_most) => {}
            }
        }
        let finish = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        if time::timeout(grace, finish).await.is_err() {
            cut.cancel();
            while let Some(ended) = tasks.join_next().await {
                report(ended);
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
        tasks: &mut JoinSet<()>,
        cut: &CancellationToken,
    ) -> Wait {
        if let Some(pause) = self.handler.pause() {
            return Wait { wakes: false, at_most: pause.min(POLL) };
        }
        let more = permits.available_permits();
        let claimed = match self.inbox.claim(self.stage, more + 1, LEASE).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(stage = self.name, error = %chain(&error), "no work can be taken from the inbox");
                return Wait { wakes: false, at_most: AFTER_FAILURE };
            }
        };
        let full = claimed.leases.len() > more;
        let mut first = Some(first);
        for lease in claimed.leases {
            let permit = match first.take() {
                Some(permit) => permit,
                None => match Arc::clone(permits).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_closed) => break,
                },
            };
            let (this, cut) = (Arc::clone(self), cut.clone());
            tasks.spawn(async move {
                this.work(lease, &cut).await;
                drop(permit);
            });
        }
        if full {
            // There may be more; go on as soon as a permit is free.
            return Wait { wakes: false, at_most: Duration::ZERO };
        }
        let at_most = claimed.next_due.map_or(POLL, |due| due.since(clock::now())).min(POLL);
        Wait { wakes: true, at_most: at_most.max(Duration::from_millis(1)) }
    }

    /// Works on one lease to its end, whatever that is.
    async fn work(&self, lease: Lease, cut: &CancellationToken) {
        // A panic ends this attempt, and nothing else.
        let handled = AssertUnwindSafe(self.handler.handle(&lease)).catch_unwind();
        let outcome = tokio::select! {
            handled = handled => match handled {
                Ok(outcome) => outcome,
                Err(_panic) => return self.lose(&lease).await,
            },
            error = self.hold(&lease) => Err(error),
            () = cut.cancelled() => Ok(Outcome::GiveBack),
        };
        let settled = match outcome {
            Ok(outcome) => self.settle(&lease, outcome, cut).await,
            Err(Error::Full(_)) => self.settle(&lease, short_of_room(), cut).await,
            Err(Error::Store(_)) => self.settle(&lease, Outcome::GiveBack, cut).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            self.metrics.leases_lost.inc();
            tracing::warn!(
                stage = self.name,
                entry = lease.seq.0,
                event.id = lease.entry.event_id,
                error = %chain(&error),
                "work on an entry could not be settled; it is done again"
            );
        }
    }

    /// Lets go of a lease whose work panicked. It expires soon, and that counts: an entry that loses its lease again and
    /// again is parked by the inbox.
    async fn lose(&self, lease: &Lease) {
        self.metrics.work_panics.inc();
        tracing::error!(
            stage = self.name,
            entry = lease.seq.0,
            event.id = lease.entry.event_id,
            attempts = lease.attempts,
            "work on an entry panicked: a defect, the line before this one says where; the entry is tried again a few times"
        );
        if let Err(error) = self.inbox.renew(lease, AFTER_FAILURE).await {
            tracing::warn!(entry = lease.seq.0, error = %chain(&error), "the lease of that entry ends by itself");
        }
    }

    /// Settles; while the store fails, again and again for as long as the lease may last: what is done need not be done
    /// twice because the disk was full for a moment.
    async fn settle(&self, lease: &Lease, outcome: Outcome, cut: &CancellationToken) -> Result<(), Error> {
        let give_up = Instant::now() + LEASE;
        loop {
            match self.inbox.settle(lease, outcome.clone()).await {
                Err(Error::Full(_) | Error::Store(_)) if Instant::now() < give_up && !cut.is_cancelled() => {
                    time::sleep(AFTER_FAILURE).await;
                }
                settled => return settled,
            }
        }
    }

    /// Prolongs a lease for as long as it is polled; resolves only when that fails.
    async fn hold(&self, lease: &Lease) -> Error {
        loop {
            time::sleep(RENEWAL).await;
            match self.inbox.renew(lease, LEASE).await {
                Ok(()) => {}
                Err(error @ (Error::LeaseLost(_) | Error::Closed)) => return error,
                Err(error) => {
                    tracing::warn!(entry = lease.seq.0, error = %chain(&error), "a lease could not be prolonged yet");
                }
            }
        }
    }
}

/// Why work on a lease went no further.
enum Stop {
    /// The lease ends like this.
    Ends(Outcome),
    /// The inbox failed.
    Inbox(Error),
}

impl Stop {
    /// The lease is parked.
    fn park(reason: impl Into<String>) -> Self {
        Self::Ends(Outcome::Park { reason: reason.into() })
    }

    /// How the lease ends, if it was not the inbox that failed.
    fn outcome(self) -> Result<Outcome, Error> {
        match self {
            Self::Ends(outcome) => Ok(outcome),
            Self::Inbox(error) => Err(error),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Inbox(error)
    }
}

/// Work that needs room on the disk waits: what is left is for events.
fn short_of_room() -> Outcome {
    let reason = "the inbox's disk has no room for accounts beside what inbox.min_free_disk keeps for events";
    Outcome::Postpone { due: clock::now().after(SHORT_OF_ROOM), reason: reason.to_owned() }
}

/// Whole milliseconds, for a log field.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What to wait for before the next look.
struct Wait {
    wakes: bool,
    at_most: Duration,
}

/// A task that panicked loses its lease, which expires; the entry is then done again.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(
            panicked = error.is_panic(),
            "work on an entry ended abruptly; it is done again when its lease expires"
        );
    }
}

#[cfg(test)]
mod tests;
