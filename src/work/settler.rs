//! Ends the leases of one stage, many in one commit.
//!
//! In: leases whose work is finished, each with its outcome. Out: settled leases. What finishes while one commit is under way is
//! settled by the next. Who finished does not wait for that, so no hand waits for the disk, and the claim of
//! the next work can be part of the same commit. While every hand is at quick work, a moment is waited for more to finish, because
//! a commit of few costs as much as a commit of many. Nobody waits for such an end meanwhile but its own connection.
//!
//! While the store fails, a lease is settled again and again for as long as it may last: what is done need not be done twice
//! because the disk was full for a moment. This happens beside the others, so that one lease that cannot be settled holds up none.

use super::{pool_figures::Figures, room::Room};
use inbox::{Error, Lease, Outcome, Queue, Stage};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Leases in one commit, about.
const TOGETHER: usize = 1024;
/// How long more is waited for, while every hand is at quick work.
const GATHERING: Duration = Duration::from_millis(3);
/// After the store failed, before it is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Leases whose work is finished, and how each of them ends.
pub(super) type Finished = Vec<(Lease, Outcome)>;

/// What ends the leases of one stage.
pub(super) struct Settler {
    pub(super) stage: Stage,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) figures: Figures,
    pub(super) room: Arc<Room>,
    /// How long a lease is settled again and again while the store fails.
    pub(super) patience: Duration,
    /// Once cancelled, the store is not waited for any more.
    pub(super) abandon: CancellationToken,
}

/// A lease that the store failed to settle.
struct Left {
    lease: Lease,
    outcome: Outcome,
    error: Error,
}

impl Settler {
    /// Settles what comes until nothing comes any more. What the store fails in goes on as one of `tasks`.
    pub(super) async fn run(self, mut finished: mpsc::UnboundedReceiver<Finished>, tasks: TaskTracker) {
        let this = Arc::new(self);
        let mut together = Vec::new();
        while finished.recv_many(&mut together, TOGETHER).await > 0 {
            this.gather(&mut finished, &mut together).await;
            let left = this.settle(together.drain(..).flatten().collect()).await;
            if !left.is_empty() {
                let this = Arc::clone(&this);
                tasks.spawn(async move { this.settle_at_last(left).await });
            }
        }
    }

    /// Waits a moment for more of what finishes, where that is worth while.
    async fn gather(&self, finished: &mut mpsc::UnboundedReceiver<Finished>, together: &mut Vec<Finished>) {
        let until = Instant::now() + GATHERING;
        while self.room.is_ahead() && self.room.is_crowded() && together.len() < self.room.most() {
            match time::timeout_at(until, finished.recv_many(together, TOGETHER)).await {
                Ok(more) if more > 0 => {}
                _ => return,
            }
        }
    }

    /// Settles, and returns what the store failed in.
    async fn settle(&self, ended: Finished) -> Vec<Left> {
        let leases: Vec<(&Lease, Outcome)> = ended.iter().map(|(lease, outcome)| (lease, outcome.clone())).collect();
        let settled = self.queue.settle(&leases).await;
        let mut left = Vec::new();
        for ((lease, outcome), settled) in ended.into_iter().zip(settled) {
            match settled {
                Ok(()) => {}
                Err(error @ (Error::Full(_) | Error::Store(_) | Error::Away(_))) => {
                    left.push(Left { lease, outcome, error });
                }
                Err(error) => self.figures.unsettled(&self.stage, &lease, &error),
            }
        }
        left
    }

    /// Settles again and again what the store failed in.
    async fn settle_at_last(&self, mut left: Vec<Left>) {
        let give_up = Instant::now() + self.patience;
        while !left.is_empty() {
            if Instant::now() >= give_up || self.abandon.is_cancelled() {
                for Left { lease, error, .. } in left {
                    self.figures.unsettled(&self.stage, &lease, &error);
                }
                return;
            }
            time::sleep(AFTER_FAILURE).await;
            left = self.settle(left.into_iter().map(|left| (left.lease, left.outcome)).collect()).await;
        }
    }
}
