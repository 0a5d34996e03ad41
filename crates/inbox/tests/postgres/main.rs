//! An inbox on a PostgreSQL that starts, stops, fails and is replaced: what a receiver does then.
//!
//! Each test has a server of its own. Without PostgreSQL's programs these tests fail, and say what to install.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on must end with a message"
)]

#[path = "../bank/mod.rs"]
mod bank;

mod connect;
mod failures;
mod journal;
mod plans;
mod seal;
mod transfer;

use base::secret::Secret;
use double::servers::{Options, Postgres};
use inbox::{Access, Error, Filter, Inbox, NewEntry, Receipt, Settings, SinkName, settings::Journal};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Nothing here takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_mins(1);

/// A server that everybody on this machine may use, with an inbox.
async fn server() -> Postgres {
    let server = Postgres::start(&Options::default()).unwrap();
    inbox::init(&at(&server.url())).await.unwrap();
    server
}

/// Settings of an inbox at this URL, without limits that matter.
fn at(url: &str) -> Settings {
    Settings { store: url.parse().unwrap(), min_free_disk: 0, ..::settings::defaults().unwrap() }
}

/// The same, with a journal in this folder.
fn beside(url: &str, folder: &Path) -> Settings {
    Settings { journal: Some(Journal::Folder(folder.join("journal"))), journal_max: 64 << 20, ..at(url) }
}

/// A receiver.
async fn open(settings: &Settings) -> Inbox {
    try_open(settings).await.unwrap()
}

async fn try_open(settings: &Settings) -> Result<Inbox, Error> {
    let inbox = inbox::connect(settings, &[SinkName::new("app")], Access::Owner).await?;
    // As the service does before it delivers.
    inbox.sinks.paused().await?;
    Ok(inbox)
}

/// An event of a connection.
fn event(id: &str, connection: &str) -> NewEntry {
    let body = format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"{connection}","user_id":"u","account_count":0,"accounts":[]}}}}"#
    );
    bank::new_entry(&body)
}

/// Looks again and again until there is something to see.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Tries until an event is taken.
async fn accepted(inbox: &Inbox, id: &str, connection: &str) -> Receipt {
    eventually("the event is accepted", async || inbox.intake.accept(event(id, connection)).await.ok()).await
}

/// Event ids in the order of the store's numbers, once there are so many.
async fn stored(inbox: &Inbox, count: usize) -> Vec<String> {
    eventually("everything is in the store", async || {
        let mut entries =
            inbox.desk.list(&Filter::default(), 10_000).await.ok().filter(|found| found.len() >= count)?;
        entries.sort_by_key(|entry| entry.seq);
        Some(entries.into_iter().map(|entry| entry.event_id.to_string()).collect())
    })
    .await
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}
