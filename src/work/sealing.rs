//! Seals what was stored before there was a key: in the background, in small batches, so that nothing else waits for long.

use base::error::chain;
use inbox::{Error, Upkeep};
use std::{sync::Arc, time::Duration};
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Rows sealed in one transaction.
const BATCH: usize = 200;
/// Between two batches, for the work of others.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// Rows between two lines of the log.
const TELL_EVERY: u64 = 50_000;

/// Seals what is not sealed yet of an inbox that is to be.
pub struct Sealing {
    /// Which one.
    pub inbox: Arc<dyn Upkeep>,
}

impl Sealing {
    /// Works until everything is sealed, then waits until `draining` is cancelled.
    pub async fn run(self, draining: CancellationToken) {
        let mut sealed = 0;
        loop {
            let pause = match self.some(&mut sealed).await {
                Ok(true) => break,
                Ok(false) => PAUSE,
                Err(error) => {
                    tracing::warn!(code = "sealing_failed", error = %chain(&error), "stored events could not be sealed; it is tried again");
                    RETRY
                }
            };
            tokio::select! {
                () = draining.cancelled() => return,
                () = time::sleep(pause) => {}
            }
        }
        draining.cancelled().await;
    }

    /// Seals one batch; says whether there is nothing left.
    async fn some(&self, sealed: &mut u64) -> Result<bool, Error> {
        let done = self.inbox.seal(BATCH).await?;
        if *sealed == 0 && done.changed > 0 {
            tracing::info!(
                code = "sealing_began",
                "events that were stored before there was a key are being sealed; everything else goes on"
            );
        }
        let before = *sealed / TELL_EVERY;
        *sealed += done.changed;
        if *sealed / TELL_EVERY > before {
            tracing::info!(code = "sealing_goes_on", entries = *sealed, "stored events were sealed");
        }
        if !done.is_done || *sealed == 0 {
            return Ok(done.is_done);
        }
        // What was there before still stands in the log beside the file. `seal` says again that it is done when this is tried again.
        self.inbox.fold_log().await?;
        tracing::info!(code = "sealing_done", entries = *sealed, "everything in the inbox is sealed now");
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use base::{clock::Timestamp, sync::lock};
    use inbox::{Expired, Resealed, Stats};
    use std::sync::Mutex;

    /// An inbox with so many plain rows, whose log can be emptied at the second try.
    #[derive(Debug)]
    struct Scripted {
        plain: Mutex<u64>,
        calls: Mutex<Vec<&'static str>>,
    }

    #[async_trait]
    impl Upkeep for Scripted {
        async fn stats(&self) -> Result<Stats, Error> {
            Err(Error::Closed)
        }

        async fn expire(&self, _: Timestamp, _: usize) -> Result<Expired, Error> {
            Err(Error::Closed)
        }

        async fn checkpoint(&self) -> Result<(), Error> {
            Err(Error::Closed)
        }

        async fn seal(&self, limit: usize) -> Result<Resealed, Error> {
            lock(&self.calls).push("seal");
            let mut plain = lock(&self.plain);
            let changed = (*plain).min(limit as u64);
            *plain -= changed;
            Ok(Resealed { changed, is_done: changed == 0 })
        }

        async fn unseal(&self, _: usize) -> Result<Resealed, Error> {
            Err(Error::Closed)
        }

        async fn fold_log(&self) -> Result<(), Error> {
            let mut calls = lock(&self.calls);
            calls.push("fold");
            if calls.iter().filter(|call| **call == "fold").count() == 1 { Err(Error::Closed) } else { Ok(()) }
        }

        async fn close(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn seals_everything_and_empties_the_log() {
        let inbox = Arc::new(Scripted { plain: Mutex::new(500), calls: Mutex::default() });
        let stop = CancellationToken::new();
        let running = tokio::spawn(Sealing { inbox: Arc::clone(&inbox) as _ }.run(stop.clone()));
        let expected = ["seal", "seal", "seal", "seal", "fold", "seal", "fold"];
        time::timeout(Duration::from_mins(5), async {
            while lock(&inbox.calls).len() < expected.len() {
                time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        time::sleep(RETRY * 3).await;
        assert_eq!(*lock(&inbox.calls), expected, "and nothing more");
        assert!(!running.is_finished(), "a part that ends early would end the process");
        stop.cancel();
        running.await.unwrap();
    }
}
