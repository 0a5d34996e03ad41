//! The end of the service: every part drains, in its order, and nothing that does not answer is waited for.

use crate::{admin, observe::traces};
use inbox::Inbox;
use std::time::Duration;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, and drained.
    Drained,
    /// It drained, because only a new start can use the inbox, which another program held locked at this one.
    Afresh,
    /// A part ended before it should.
    Early,
}

/// What runs, and what has to be ended in order.
pub(super) struct Ending {
    pub(super) receiver: JoinHandle<()>,
    pub(super) tasks: JoinSet<()>,
    pub(super) admin: Option<(admin::Bound, admin::State)>,
    pub(super) inbox: Inbox,
    pub(super) traces: traces::Ending,
    pub(super) stop: CancellationToken,
    /// How long the receiver and the work loops take for their drains at most.
    pub(super) grace: Duration,
}

/// For what else has to end after the drains. A server that does not answer holds nothing up for longer.
const LATE: Duration = Duration::from_secs(4);

impl Ending {
    /// Runs until the service has ended.
    pub(super) async fn run(mut self) -> Ended {
        // The admin listener ends by a token of its own, because it still answers during the drain.
        let stopped = CancellationToken::new();
        let admin = self.admin.take().map(|(bound, state)| tokio::spawn(bound.serve(state, stopped.clone())));
        let ended = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ended::Drained,
            () = self.inbox.upkeep.usable_again() => Ended::Afresh,
            _ = &mut self.receiver => Ended::Early,
            _ = self.tasks.join_next() => Ended::Early,
        };
        match ended {
            Ended::Drained => {}
            Ended::Afresh => tracing::warn!(
                code = "store_unlocked",
                "no other program holds the inbox locked any more; the service drains and ends, so that it is started afresh"
            ),
            Ended::Early => tracing::error!(
                code = "part_ended_early",
                "a part of the service ended before it should; the process ends, so that it is started afresh"
            ),
        }
        self.stop.cancel();
        let deadline = Instant::now() + self.grace + LATE;
        if timeout_at(deadline, self.join()).await.is_err() {
            tracing::warn!(
                code = "parts_cut",
                count = self.tasks.len() + usize::from(!self.receiver.is_finished()),
                "parts of the service wait for something that does not answer, and are cut; what they worked on is taken up again when its lease ends"
            );
            self.receiver.abort();
            self.tasks.shutdown().await;
        }
        if timeout_at(deadline + LATE, self.inbox.upkeep.close()).await.is_err() {
            tracing::warn!(
                code = "store_not_closed_in_time",
                "the inbox did not close in time, because something does not answer; what was accepted is kept"
            );
        }
        self.traces.flush().await;
        stopped.cancel();
        if let Some(admin) = admin
            && let Err(error) = admin.await
        {
            tracing::error!(code = "admin_ended_abruptly", error = %error, "the admin listener ended abruptly");
        }
        tracing::info!(code = "drained", "drained; nothing is left open");
        ended
    }

    /// Waits for the end of every part.
    async fn join(&mut self) {
        if !self.receiver.is_finished()
            && let Err(error) = (&mut self.receiver).await
        {
            tracing::error!(code = "receiver_ended_abruptly", error = %error, "the receiver ended abruptly");
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(code = "task_ended_abruptly", error = %error, "a task of the service ended abruptly");
            }
        }
    }
}
