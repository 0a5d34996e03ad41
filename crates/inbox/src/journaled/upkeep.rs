//! [`Upkeep`] of a store behind a journal.

use super::Journaled;
use crate::{Error, Expired, Resealed, Stats, Upkeep};
use async_trait::async_trait;
use base::{clock::Timestamp, sync::lock};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long the figures of the store are waited for.
const STORE_TIME: Duration = Duration::from_millis(1500);

#[async_trait]
impl Upkeep for Journaled {
    async fn stats(&self) -> Result<Stats, Error> {
        let is_stuck = self.progress.is_stuck();
        let stats = match timeout(STORE_TIME, self.store.stats()).await {
            Ok(Ok(stats)) => stats,
            // A store that tells nothing is when those of the journal are needed most.
            _ if is_stuck => Stats::default(),
            Ok(Err(error)) => return Err(error),
            Err(_elapsed) => return Err(Error::Store("it did not tell its figures in time".into())),
        };
        if self.is_disk_shared {
            self.space.set_reusable(self.store.space.reusable());
        }
        Ok(Stats {
            // Events are taken as long as the journal's disk has room.
            free_bytes: self.space.known_free(),
            journal_bytes: self.journal.size(),
            unfolded: self.unfolded(),
            is_fold_stuck: is_stuck,
            ..stats
        })
    }

    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<Expired, Error> {
        let expired = self.store.expire(cutoff, limit).await?;
        if expired.deleted > 0 {
            self.progress.forget_contents();
        }
        Ok(expired)
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        Upkeep::checkpoint(&*self.store).await
    }

    async fn seal(&self, limit: usize) -> Result<Resealed, Error> {
        Upkeep::seal(&*self.store, limit).await
    }

    async fn unseal(&self, limit: usize) -> Result<Resealed, Error> {
        Upkeep::unseal(&*self.store, limit).await
    }

    async fn fold_log(&self) -> Result<(), Error> {
        // What was deleted was in the store, so its record is folded; only its segment may still be there.
        self.journal.close_segment().await;
        self.journal.let_go(self.progress.folded());
        self.journal.cleared().await;
        Upkeep::fold_log(&*self.store).await
    }

    async fn close(&self) {
        let (journal, progress) = (Arc::clone(&self.journal), Arc::clone(&self.progress));
        let fold = lock(&self.fold).take();
        let ended = tokio::task::spawn_blocking(move || {
            // First nothing more comes in, then everything is folded, then what was folded is cleared.
            journal.stop();
            progress.end();
            if fold.is_some_and(|fold| fold.join().is_err()) {
                tracing::error!(code = "fold_ended_with_panic", "the fold ended with a panic");
            }
            journal.let_go(progress.folded());
            journal.end();
        });
        if let Err(error) = ended.await {
            tracing::error!(code = "journal_not_closed", error = %error, "the journal could not be closed");
        }
        self.store.close().await;
    }
}
