//! `inbox erase`, and `inbox export --user`: what a person may ask for.

use super::{output::emit, selection::Selection};
use crate::{
    commands::{
        Failure, Global,
        acts::{Unnoted, noted},
        guest::{failure, note, open, open_alone},
    },
    config::Config,
    control::{self, Client},
    story::json,
};
use base::{error::chain, text::printable};
use clap::Args;
use event::{ConnectionId, UserId, compact};
use inbox::{Erased, Filter, Held, HeldReading, Inbox, Seq, Subject, archive};

/// Bytes that are gathered before they are printed.
const CHUNK: usize = 1024 * 1024;

/// Whose data is meant.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// The user with this id, and their connections
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The connection with this id
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
}

impl Whose {
    fn parts(self) -> (Subject, String) {
        match (self.user, self.connection) {
            (Some(user), _) => (Subject::User(UserId::new(user.as_str())), format!("--user {user}")),
            (None, connection) => {
                let connection = connection.unwrap_or_default();
                (Subject::Connection(ConnectionId::new(connection.as_str())), format!("--connection {connection}"))
            }
        }
    }
}

/// `--yes` is missing.
pub(super) fn unconfirmed() -> Failure {
    Failure::usage(
        "erase deletes everything of somebody for good\nhint: look at it with `inbox export` and the same option, then add --yes",
    )
}

/// Erases everything of somebody, in the running service or without one.
pub(super) async fn erase(global: &Global, whose: Whose) -> Result<(), Failure> {
    let config = global.load()?;
    let (whose, which) = whose.parts();
    let service = Client::find(&control::path(&config.inbox)).map_err(|error| Failure::not_now(chain(&error)))?;
    let inbox = if service.is_some() { open(&config).await? } else { open_alone(&config).await? };
    let erased = noted(&*inbox.audit, ("erase", which), Unnoted::GoesOn, async || {
        let erased = if let Some(service) = &service {
            service.erase(&whose).await.map_err(|error| Failure::not_now(chain(&error)))?
        } else {
            let erased = inbox.persons.erase(&whose).await;
            erased.map_err(|error| failure(&error))?
        };
        let entries = erased.entries;
        Ok((erased, entries))
    })
    .await;
    inbox.upkeep.close().await;
    report(&config, &erased?)
}

/// Says what was erased, what is left, and what is elsewhere.
fn report(config: &Config, erased: &Erased) -> Result<(), Failure> {
    let Erased { entries, readings, refused, keys, is_sealed, left } = erased;
    note(format_args!(
        "erased: {entries} entries, {readings} readings of connections, {refused} refused requests, {keys} keys"
    ));
    let sinks: Vec<String> = config.sinks.iter().map(|sink| printable(sink.name.as_str())).collect();
    note(format_args!("not reached: what was delivered to {}", sinks.join(", ")));
    note(format_args!(
        "not reached: the log of the service, which has ids and no bank data; this erasure in `inbox audit`"
    ));
    if *is_sealed {
        note(format_args!(
            "backups that were made under the seal cannot be read any more with the keys of this inbox; delete copies of its keys \
             from before (`inbox backup --keys`, snapshots of the disk), and backups from before the seal"
        ));
    } else {
        note(format_args!("not reached: backups, which keep the data, because the inbox is not sealed (inbox.key)"));
    }
    for file in archive::left_aside(&config.inbox) {
        note(format_args!(
            "not reached: {}, which a restore set aside; delete it when it is not needed",
            file.display()
        ));
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::not_now(format_args!("something may be left in the inbox:\n{}", left.join("\n"))))
}

/// Prints everything that is held of a user. Returns how many lines that were.
pub(super) async fn export(inbox: &Inbox, selection: &Selection) -> Result<u64, Failure> {
    let Some(user) = selection.user() else { return Ok(0) };
    let held = inbox.persons.held(&Subject::User(user)).await.map_err(|error| failure(&error))?;
    let Held { entries, readings, refused } = held;
    let lines = (entries.len() + readings.len() + refused.len()) as u64;
    let mut text = Vec::new();
    for seq in entries {
        entry(inbox, seq, &mut text).await?;
        if print(&mut text, CHUNK)? {
            return Ok(lines);
        }
    }
    for of in &readings {
        if reading(inbox, of, &mut text).await? {
            return Ok(lines);
        }
    }
    for request in &refused {
        json::refused(request, true, Some("refused"), &mut text).map_err(|error| unwritable(&error))?;
    }
    print(&mut text, 0)?;
    Ok(lines)
}

async fn entry(inbox: &Inbox, seq: Seq, text: &mut Vec<u8>) -> Result<(), Failure> {
    let filter = Filter { seq: Some(seq), ..Filter::default() };
    let found = inbox.desk.list(&filter, 1).await.map_err(|error| failure(&error))?;
    // Retention may have been first.
    let Some(view) = found.first() else { return Ok(()) };
    let body = inbox.desk.body(seq).await.map_err(|error| failure(&error))?;
    json::entry(view, None, body.as_deref(), Some("entry"), text).map_err(|error| unwritable(&error))
}

/// Prints a reading page by page. Says whether nobody reads on.
async fn reading(inbox: &Inbox, of: &HeldReading, text: &mut Vec<u8>) -> Result<bool, Failure> {
    json::held(of, text).map_err(|error| unwritable(&error))?;
    let pages = inbox.shelf.pages(of.id).await.map_err(|error| failure(&error))?;
    let mut is_first = true;
    for (number, size) in pages {
        if size == 0 {
            continue;
        }
        if !is_first {
            text.push(b',');
        }
        is_first = false;
        let page = inbox.shelf.page(of.id, number).await.map_err(|error| failure(&error))?;
        text.extend_from_slice(&compact(&page));
        if print(text, CHUNK)? {
            return Ok(true);
        }
    }
    text.extend_from_slice(json::READING_END);
    print(text, CHUNK)
}

/// Prints what has gathered, where it is more than so much. Says whether nobody reads on.
fn print(text: &mut Vec<u8>, least: usize) -> Result<bool, Failure> {
    if text.len() <= least {
        return Ok(false);
    }
    let is_over = emit(text)?.is_break();
    text.clear();
    Ok(is_over)
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::ours(format_args!("it cannot be written as JSON: {error}"))
}
