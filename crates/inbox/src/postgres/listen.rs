//! Receivers wake each other: who made work due tells the others, by the server's notifications.
//!
//! A notification is sent beside the commits and not in them, because PostgreSQL lets transactions that notify commit one after the other.
//! What became due within a moment is one notification. None of them is needed for anything to happen: every receiver looks for work
//! every second, too, so a notification that is lost with a connection costs that second.

use super::{
    store::Core,
    tx::{self, statement},
};
use crate::kind::Kind;
use std::{collections::BTreeSet, sync::Weak, time::Duration};
use tokio::time::sleep;

/// What becomes due within this is told at once.
const MOMENT: Duration = Duration::from_millis(20);
/// Before a connection that failed is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// The name under which the receivers of this inbox hear of each other. An inbox is alone in its schema, and not in its database.
fn channel(core: &Core) -> String {
    format!("linxo_webhook_{:?}", core.keys.identity)
}

/// Tells other receivers what became due here, as long as the store is open.
pub(super) async fn tell(core: Weak<Core>) {
    let Some(mut news) = core.upgrade().map(|core| core.shared.news.subscribe()) else { return };
    while news.changed().await.is_ok() {
        sleep(MOMENT).await;
        let Some(core) = core.upgrade().filter(|core| !core.shared.is_closed()) else { return };
        let mut kinds = BTreeSet::new();
        core.shared.news.send_if_modified(|news| {
            kinds = std::mem::take(news);
            false
        });
        if kinds.is_empty() {
            continue;
        }
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.0.to_string()).collect();
        let payload = format!("{}:{}", core.number, kinds.join(","));
        let told = tx::query(&core.pool, statement!("SELECT pg_notify($1, $2)", channel(&core), payload)).await;
        if let Err(error) = told.map_err(crate::Error::from) {
            tracing::debug!(code = "receivers_not_told", error = %base::error::chain(&error), "other receivers could not be told of new work; they look for it by themselves");
        }
    }
}

/// Hears what became due at other receivers, as long as the store is open.
pub(super) async fn listen(core: Weak<Core>) {
    loop {
        let Some((pool, channel, mut end)) = core
            .upgrade()
            .filter(|core| !core.shared.is_closed())
            .map(|core| (core.pool.clone(), channel(&core), core.shared.end_of_all()))
        else {
            return;
        };
        if let Ok(mut heard) = pool.listen(&channel).await {
            loop {
                // Both are cancel safe.
                let payload = tokio::select! {
                    payload = heard.next() => payload,
                    _closed = end.wait_for(|is_closed| *is_closed) => return,
                };
                let (Some(payload), Some(core)) = (payload, core.upgrade()) else { break };
                let (sender, kinds) = parse(&payload);
                if sender != Some(core.number) {
                    for kind in kinds {
                        core.shared.waker(kind).notify_one();
                    }
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// The number of the receiver, and the kinds of stages that have work. Of another version it may say something else.
fn parse(payload: &str) -> (Option<u64>, Vec<Kind>) {
    let (sender, kinds) = payload.split_once(':').unwrap_or_default();
    (sender.parse().ok(), kinds.split(',').filter_map(|kind| kind.parse().ok().map(Kind)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_wakes_nobody() {
        assert_eq!(parse("7:0,12"), (Some(7), vec![Kind(0), Kind(12)]));
        assert_eq!(parse("7:x,,3"), (Some(7), vec![Kind(3)]));
        assert_eq!(parse("who knows"), (None, Vec::new()));
    }
}
