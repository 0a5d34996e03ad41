//! What became of the events that were posted: entries of the inbox, where the receiver is a service on this machine.

use crate::{
    commands::{guest, table},
    config::Config,
    control::{self, Client},
    story::words,
};
use base::{error::chain, text::printable};
use inbox::{EntryView, Filter, Inbox, Stage, StageView, State};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

/// Between two looks into the inbox.
const PAUSE: Duration = Duration::from_millis(50);
/// Entries of one event id that are looked at; there are several where their contents differ.
const ENTRIES: usize = 100;

/// The entries of these event ids, oldest first, as soon as there are as many of each as is said, and all of them are done or
/// parked; or when the time is over. `Err` says why nothing is known.
pub(super) async fn entries(
    config: &Config,
    wanted: &BTreeMap<String, usize>,
    wait: Duration,
) -> Result<Vec<EntryView>, String> {
    match Client::find(&control::path(&config.inbox)) {
        Ok(Some(_)) => {}
        Ok(None) => return Err("no service of this configuration runs on this machine".to_owned()),
        Err(error) => return Err(chain(&error)),
    }
    let inbox = guest::open(config).await.map_err(|failure| failure.message)?;
    let found = settled(&inbox, wanted, wait).await.map_err(|error| chain(&error));
    inbox.upkeep.close().await;
    found
}

async fn settled(
    inbox: &Inbox,
    wanted: &BTreeMap<String, usize>,
    wait: Duration,
) -> Result<Vec<EntryView>, inbox::Error> {
    let started = Instant::now();
    loop {
        let (mut found, mut are_all_there) = (Vec::new(), true);
        for (id, number) in wanted {
            let filter = Filter { id: Some(id.clone()), ..Filter::default() };
            let entries = inbox.desk.list(&filter, ENTRIES).await?;
            are_all_there &= entries.len() >= *number;
            found.extend(entries);
        }
        let is_at_rest = found.iter().all(|entry| matches!(entry.state, State::Done | State::Parked));
        if (are_all_there && is_at_rest) || started.elapsed() >= wait {
            found.sort_by_key(|entry| entry.seq);
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The entries for people.
pub(super) fn table(entries: &[EntryView]) -> String {
    let mut table = table::plain();
    table.set_header(["ENTRY", "STATE", "WEBHOOK-ID", "ACCOUNTS", "WORK"]);
    for entry in entries {
        let work: Vec<String> = entry.stages.iter().filter_map(work).collect();
        table.add_row([
            entry.seq.to_string(),
            entry.state.as_str().to_owned(),
            printable(entry.delivery_id.as_str()),
            words::accounts(entry),
            work.join("\n"),
        ]);
    }
    table::trimmed(&table)
}

/// `app: done, 1 attempt`; what was fetched is no news once it is done.
fn work(stage: &StageView) -> Option<String> {
    if stage.state == State::Done && matches!(stage.stage, Stage::Fetch(_)) {
        return None;
    }
    let tries = if stage.attempts == 1 { "attempt" } else { "attempts" };
    let mut text = format!("{}: {}, {} {tries}", printable(stage.stage.as_str()), stage.state.as_str(), stage.attempts);
    // Writing into a String does not fail.
    if stage.state == State::Waiting
        && let Some(due) = stage.due
    {
        write!(text, ", next at {}", words::time(due)).unwrap_or_default();
    }
    if stage.state != State::Done
        && let Some(reason) = words::reason(stage)
    {
        write!(text, ": {}", printable(&reason)).unwrap_or_default();
    }
    Some(text)
}
