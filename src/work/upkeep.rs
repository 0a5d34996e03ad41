//! Retention, and the inbox's figures: looked after from time to time.

use base::{clock, error::chain};
use inbox::{Error, Figures};
use std::{sync::Arc, time::Duration};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Entries deleted at once, so that accepting is never held up for long.
const BATCH: usize = 500;

/// Looks after an inbox.
pub struct Upkeep {
    /// Which one.
    pub inbox: Arc<dyn inbox::Upkeep>,
    /// How long done entries are kept.
    pub retention: Duration,
    /// What is shown of it.
    pub figures: Figures,
}

impl Upkeep {
    /// Deletes done entries after their time and keeps the figures right, until `draining` is cancelled.
    pub async fn run(self, draining: CancellationToken) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(error = %chain(&error), "housekeeping of the inbox failed; it is tried again");
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = time::sleep(EVERY) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let cutoff = clock::now().before(self.retention);
        loop {
            let deleted = self.inbox.expire(cutoff, BATCH).await?;
            if deleted == 0 {
                break;
            }
            tracing::debug!(entries = deleted, "done entries were deleted after inbox.retention");
        }
        self.figures.show(&self.inbox.stats().await?);
        Ok(())
    }
}
