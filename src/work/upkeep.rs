//! Retention, and the inbox's figures: looked after from time to time.

use super::{gate::Gate, source::Source};
use crate::observe::metrics::Latest;
use base::{clock, error::chain};
use inbox::{Error, Fetch, Figures, Stage, Stats};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Entries deleted at once, so that accepting is never held up for long.
const BATCH: usize = 500;

/// How many times as long as it took is the pause before what retention deleted is overwritten again: all pages of the inbox file are
/// read for it, and where old entries expire all the time, some were always deleted just now.
const PAUSE: u32 = 30;

/// Registers the count of checkpoints that failed.
#[must_use]
pub fn checkpoint_failures(registry: &mut Registry) -> Counter {
    let failures = Counter::default();
    let help = "Times that the inbox's log could not be moved into its file";
    registry.register("inbox_checkpoint_failures", help, failures.clone());
    failures
}

/// Looks after an inbox.
pub struct Upkeep {
    /// Which one.
    pub inbox: Arc<dyn inbox::Upkeep>,
    /// Where operators' acts are noted.
    pub audit: Arc<dyn inbox::Audit>,
    /// How long done entries are kept.
    pub retention: Duration,
    /// How long operators' acts are kept.
    pub audit_retention: Duration,
    /// What is shown of it.
    pub figures: Figures,
    /// Counts checkpoints that failed.
    pub checkpoint_failures: Counter,
    /// When the last event was accepted, which the inbox knows from before the start.
    pub last_event: Latest,
    /// Those of the sinks.
    pub gates: Vec<Arc<Gate>>,
    /// What completions ask.
    pub source: Arc<Source>,
}

impl Upkeep {
    /// Deletes done entries after their time and keeps the figures right, until `draining` is cancelled.
    pub async fn run(self, draining: CancellationToken) {
        // Whatever was deleted before the start may not be gone yet.
        let remains = AtomicBool::new(true);
        // Side by side: the file is read for minutes where it is large, and the figures are to be right meanwhile.
        tokio::join!(self.look_after(&remains, &draining), self.overwrite(&remains, &draining));
    }

    async fn look_after(&self, remains: &AtomicBool, draining: &CancellationToken) {
        loop {
            if let Err(error) = self.look(remains).await {
                tracing::warn!(code = "housekeeping_failed", error = %chain(&error), "housekeeping of the inbox failed; it is tried again");
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = time::sleep(EVERY) => {}
            }
        }
    }

    /// Overwrites what may be left on the disk of what was deleted.
    async fn overwrite(&self, remains: &AtomicBool, draining: &CancellationToken) {
        loop {
            let began = Instant::now();
            if remains.swap(false, Ordering::AcqRel) {
                // Cut short it leaves whole transactions behind; the next start begins again.
                let overwritten = tokio::select! {
                    () = draining.cancelled() => return,
                    overwritten = self.inbox.fold_log() => overwritten,
                };
                if let Err(error) = overwritten {
                    remains.store(true, Ordering::Release);
                    tracing::debug!(code = "store_log_not_emptied", error = %chain(&error), "the inbox's log could not be emptied after deletions; it is tried again");
                }
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = time::sleep(EVERY.max(began.elapsed() * PAUSE)) => {}
            }
        }
    }

    async fn look(&self, remains: &AtomicBool) -> Result<(), Error> {
        if let Err(error) = self.inbox.checkpoint().await {
            self.checkpoint_failures.inc();
            tracing::error!(
                code = "store_file_not_written",
                error = %chain(&error),
                "the inbox's file cannot be written: events are safe in its log, which grows until the disk is full; look at the disk"
            );
        }
        let cutoff = clock::now().before(self.retention);
        let mut deleted = 0;
        loop {
            let expired = self.inbox.expire(cutoff, BATCH).await?;
            deleted += expired.deleted;
            if expired.is_done {
                break;
            }
        }
        self.audit.forget(clock::now().before(self.audit_retention)).await?;
        if deleted > 0 {
            tracing::debug!(
                code = "entries_expired",
                entries = deleted,
                "done entries were deleted after inbox.retention"
            );
            remains.store(true, Ordering::Release);
        }
        // What cannot be told is absent, and not what it was.
        let stats = self.inbox.stats().await.inspect_err(|_| self.figures.forget())?;
        if let Some(at) = stats.last_accepted {
            self.last_event.note(at);
        }
        self.forget_failures(&stats);
        self.figures.show(stats);
        Ok(())
    }

    /// Where nothing waits, nothing fails: another receiver may have done the work, or a person given it up.
    fn forget_failures(&self, stats: &Stats) {
        let is_idle = |stage: &Stage| {
            let counts = stats.stages.iter().find(|(of, _)| of == stage);
            counts.is_some_and(|(_, counts)| counts.waiting + counts.leased == 0)
        };
        for gate in self.gates.iter().filter(|gate| is_idle(&Stage::Deliver(gate.name().clone()))) {
            gate.nothing_waits();
        }
        if Fetch::ALL.iter().all(|fetch| is_idle(&Stage::Fetch(*fetch)))
            && let Some(client) = self.source.client()
        {
            client.nothing_waits();
        }
    }
}
