//! What is special about the inbox on a SQLite file: the file itself, its tables, and files of earlier versions. What every
//! back end does is in `tests/contract`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must end with a message"
)]

#[path = "../bank/mod.rs"]
mod bank;

mod archive;
mod columns;
mod erase;
mod file;
mod histories;
mod journal;
mod migration;
mod seal;

use bank::new_entry;
use inbox::{Access, Error, Folded, Inbox, Seq, Settings, SinkName, open, settings};
use std::{path::Path, time::Duration};

const LEASE: Duration = Duration::from_mins(1);

/// Without a journal and without limits that matter.
fn settings_of(path: &Path) -> Settings {
    Settings {
        store: settings::Store::Sqlite(path.to_owned()),
        journal: Some(settings::Journal::Off),
        journal_max: 64 << 20,
        min_free_disk: 0,
        ..::settings::defaults().unwrap()
    }
}

fn try_open(path: &Path, access: Access) -> Result<Inbox, Error> {
    open(&settings_of(path), &["app", "books"].map(SinkName::new), access)
}

fn open_at(path: &Path) -> Inbox {
    try_open(path, Access::Owner).unwrap()
}

async fn folded(inbox: &Inbox, json: &str) -> Folded {
    inbox.intake.accept(new_entry(json)).await.unwrap().folded.unwrap()
}

async fn accept(inbox: &Inbox, json: &str) -> Seq {
    match folded(inbox, json).await {
        Folded::Stored { seq, .. } => seq,
        duplicate @ Folded::Duplicate { .. } => panic!("{duplicate:?}"),
    }
}

/// A small whole event.
fn event(id: &str, connection: &str) -> String {
    format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS",
            "resource":{{"id":"{connection}","account_count":1,"accounts":[{{"id":"1"}}]}}}}"#
    )
}
