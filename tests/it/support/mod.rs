//! What several subjects share.
//!
//! | file | what |
//! | --- | --- |
//! | `site` | a folder with a configuration, certificates and secrets; starts the service in the test's own process |
//! | `process` | the same service as the true program, for signals and crashes |
//! | `client` | a caller over TLS that writes what it likes |
//! | `endpoint` | the integrator's own HTTP endpoint |
//! | `load` | callers that remember what they were promised |
//! | `rounds` | the service ended without a warning again and again, and what must be true then |
//! | `fault`, `fault.c` | a disk that fails on demand |
//! | `mount` | file systems that are made for one test |

mod client;
mod endpoint;
mod fault;
mod load;
pub(crate) mod mount;
mod process;
pub(crate) mod rounds;
mod site;

pub(crate) use client::{Answer, Client, Door, admin, request};
pub(crate) use endpoint::{Endpoint, Received};
pub(crate) use fault::Faults;
pub(crate) use load::Promises;
pub(crate) use process::Process;
pub(crate) use site::{Service, Site, secrets, start, text};

use base::clock;
use bytes::Bytes;
use event::Event;
use inbox::{EntryView, Filter, Inbox, NewEntry, Settings, State, settings::Store};
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Nothing in these tests takes this long; it only turns a hang into a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Looks again and again until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every entry, oldest first.
pub(crate) async fn entries(inbox: &Inbox) -> Vec<EntryView> {
    let mut entries = inbox.desk.list(&Filter::default(), 1_000_000).await.unwrap();
    entries.reverse();
    entries
}

/// Waits until nothing is left to do but what a person must do; returns every entry, oldest first.
pub(crate) async fn settled(inbox: &Inbox) -> Vec<EntryView> {
    eventually("all work is done or parked", async || {
        let entries = entries(inbox).await;
        entries.iter().all(|entry| matches!(entry.state, State::Done | State::Parked)).then_some(entries)
    })
    .await
}

/// The documents that a file sink wrote.
pub(crate) fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ids of what a file sink wrote.
pub(crate) fn delivered(path: &Path) -> Vec<String> {
    documents(path).iter().map(|document| document["id"].as_str().unwrap().to_owned()).collect()
}

/// Settings of an inbox at a path, without limits that matter.
pub(crate) fn inbox_at(path: &Path) -> Settings {
    Settings { store: Store::Sqlite(path.to_owned()), min_free_disk: 0, ..::settings::defaults().unwrap() }
}

/// An event's JSON: of a connection, with an id, with a number of accounts listed or only announced.
pub(crate) fn event_json(id: &str, connection: &str, accounts: usize, truncated: bool) -> String {
    let list: Vec<String> =
        (0..if truncated { 0 } else { accounts }).map(|n| format!(r#"{{"id":"{n}","balance":{n}.10}}"#)).collect();
    format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":1700000005,
            "channel_definition_id":"5","resource":{{"id":"{connection}","user_id":"u{connection}",
            "channels":[{{"channel_definition_id":"5","mode":"REDIRECT","status":"SUCCESS"}}],
            "account_count":{accounts},"accounts":[{}]}}}}"#,
        list.join(",")
    )
}

/// An entry ready to be accepted.
pub(crate) fn new_entry(json: &str) -> NewEntry {
    NewEntry {
        event: Event::parse(json.as_bytes()).unwrap(),
        body: Bytes::copy_from_slice(json.as_bytes()),
        received: clock::now(),
        confirm: false,
        sender: Some(r#"{"peer":"127.0.0.1"}"#.to_owned()),
        trace: None,
    }
}
