//! What this receiver says of itself, so that the page of every receiver shows all of them.
//!
//! In: why no event would be taken now. Out: a row in the inbox, written when that changes and once a minute; taken away at the end.

use base::clock;
use inbox::{Receiver, Receivers};
use std::{fs, sync::Arc, time::Duration};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks whether something has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports where nothing has.
const EVERY: Duration = Duration::from_mins(1);

/// Reports until `stop` is cancelled. `id` is of this start of the service.
pub async fn report(
    receivers: Arc<dyn Receivers>,
    id: String,
    obstacles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    stop: CancellationToken,
) {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let mut receiver =
        Receiver { id, name, version: env!("CARGO_PKG_VERSION").to_owned(), since: clock::now(), obstacle: None };
    // When it was last written, and what.
    let mut written: Option<(Instant, Option<String>)> = None;
    while stop.run_until_cancelled(time::sleep(LOOK)).await.is_some() {
        let reasons = obstacles();
        receiver.obstacle = (!reasons.is_empty()).then(|| reasons.join("; "));
        let is_news = written.as_ref().is_none_or(|(at, said)| at.elapsed() >= EVERY || *said != receiver.obstacle);
        if !is_news {
            continue;
        }
        if let Err(error) = receivers.report(&receiver).await {
            tracing::debug!(code = "receiver_not_reported", error = %error, "the list of receivers could not be written to; it is tried again");
        }
        // Also where it failed: a store that is away is not asked every second.
        written = Some((Instant::now(), receiver.obstacle.clone()));
    }
    // One that stays is taken away by others.
    receivers.leave(&receiver.id).await.ok();
}
