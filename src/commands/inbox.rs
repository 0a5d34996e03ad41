//! `inbox`: looks at the entries and moves them by hand: `ls`, `show`, `replay`, `park`, `purge`, `export`,
//! `refused`, `audit`, `backup`, `restore`, `verify`, `erase`, `unseal`.
//!
//! Works on the store itself, beside a running server or without one. Tables are for people and may change; `--json` and
//! `export` are NDJSON for programs. Bodies hold personal data and are printed only where asked for (`show --body`,
//! `export`). What changes entries needs a filter or `--all`, and `purge` needs `--yes`, so that no slip of the hand
//! touches everything. What changes entries or prints their bodies is noted in the audit trail.

mod archive;
mod json;
mod out;
mod persons;
mod selection;
mod view;

use super::{
    Failure, Global,
    acts::{Unnoted, noted},
    guest::{failure, note, open},
};
use crate::{
    config::Config,
    control::{self, Client},
};
use base::text::printable;
use clap::{Args as ClapArgs, Subcommand};
use inbox::{Audit, Batch, Desk, EntryView, Error, Filter, Inbox, Seq, SinkName};
use out::emit;
use selection::{EVERY, Selection};
use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

/// Entries read at once where all are wanted; bounds memory.
const PAGE: usize = 500;

/// Options of `inbox`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List entries, newest first
    Ls {
        #[command(flatten)]
        selection: Selection,
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show everything about one entry
    Show {
        /// Its event id, delivery id or number
        entry: String,
        /// Print the stored event too (personal data)
        #[arg(long)]
        body: bool,
        /// Print NDJSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Put parked or done entries back in line; with --sink for this sink only
    Replay {
        #[command(flatten)]
        selection: Selection,
    },
    /// Stop work on unfinished entries until they are replayed
    Park {
        #[command(flatten)]
        selection: Selection,
        /// Why, in one sentence
        #[arg(long, default_value = "parked by an operator")]
        reason: String,
    },
    /// Delete done or parked entries for good
    Purge {
        #[command(flatten)]
        selection: Selection,
        /// Really delete
        #[arg(long)]
        yes: bool,
    },
    /// Erase everything of a user, or of a connection, whatever its state
    Erase {
        #[command(flatten)]
        whose: persons::Whose,
        /// Really erase
        #[arg(long)]
        yes: bool,
    },
    /// Take the seal away: store everything as it is, no service may be running
    Unseal {
        /// Really store bank data unencrypted
        #[arg(long)]
        yes: bool,
    },
    /// Print entries with their stored events as NDJSON, newest first (personal data); with --user alone everything that is held
    /// of that user
    Export {
        #[command(flatten)]
        selection: Selection,
    },
    /// Copy the inbox as it is at one moment to a new file, beside a running service
    Backup {
        /// The file to make (personal data; for its owner alone)
        file: PathBuf,
        /// Write the keys of a sealed inbox too, to a file of their own; a backup has none
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Put a backup in the place of the inbox, whose files are set aside; no service may be running
    Restore {
        /// A file that `inbox backup` made
        file: PathBuf,
        /// Add the keys of a file that `inbox backup --keys` made
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Read everything that the inbox has on the disk, and say what is damaged and what to do
    Verify,
    /// List what operators did, newest first
    Audit {
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
        /// At most this many acts
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,
    },
    /// List requests that were refused, newest first
    Refused {
        /// Print how each body began too, where that was kept (personal data)
        #[arg(long)]
        body: bool,
        /// Print NDJSON instead of a table
        #[arg(long)]
        json: bool,
        /// At most this many requests
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,
    },
}

/// Runs one of the actions.
///
/// # Errors
/// 64 for a selection that cannot be meant, 70 or 75 when the store cannot be used, 78 for the configuration.
pub async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    // Before the store is opened, so that a usage error is the first to be heard.
    args.action.check()?;
    match args.action {
        Action::Backup { file, keys } => return archive::backup(global, file, keys).await,
        Action::Restore { file, keys } => return archive::restore(global, file, keys).await,
        Action::Erase { whose, .. } => return persons::erase(global, whose).await,
        Action::Unseal { .. } => return archive::unseal(global).await,
        Action::Verify => return archive::verify(global).await,
        _ => {}
    }
    let config = global.load()?;
    let inbox = open(&config)?;
    let deletes = matches!(args.action, Action::Purge { .. });
    let result = match args.action.selection() {
        Some(selection) => must_exist(&config, &*inbox.desk, selection).await,
        None => Ok(()),
    };
    let result = match result {
        Ok(()) => act(&inbox, args.action).await,
        missing => missing,
    };
    if deletes && !clear(&config, &inbox).await {
        note(format_args!(
            "what was deleted may still stand in the log or the journal beside the inbox, which is in use now: run the command \
             again, or wait a minute until the service empties them"
        ));
    }
    inbox.upkeep.close().await;
    result
}

/// Sees to it that nothing of what was deleted stays beside the inbox file: by the running service, which has the journal, or
/// without one. Returns whether that was done.
async fn clear(config: &Config, inbox: &Inbox) -> bool {
    match Client::find(&control::path(&config.inbox)).ok().flatten() {
        Some(service) => service.clear().await.is_ok(),
        None => inbox.upkeep.fold_log().await.is_ok(),
    }
}

impl Action {
    fn selection(&self) -> Option<&Selection> {
        match self {
            Self::Ls { selection, .. }
            | Self::Replay { selection }
            | Self::Park { selection, .. }
            | Self::Purge { selection, .. }
            | Self::Export { selection } => Some(selection),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Replay { selection } | Self::Park { selection, .. } => selection.meant().map(drop),
            Self::Erase { yes: false, .. } => Err(persons::unconfirmed()),
            Self::Unseal { yes: false } => Err(archive::unconfirmed()),
            Self::Purge { selection, yes } => {
                selection.meant()?;
                if *yes {
                    Ok(())
                } else {
                    Err(Failure::usage(
                        "purge deletes events for good\nhint: look at them with `inbox ls` and the same filters, then add --yes",
                    ))
                }
            }
            _ => Ok(()),
        }
    }
}

/// What a selection names by itself must be there: a slip in a name would look like having nothing to do. A sink that is not
/// configured any more may still have entries.
async fn must_exist(config: &Config, desk: &dyn Desk, selection: &Selection) -> Result<(), Failure> {
    let is_there = async |filter: Filter| {
        let found = desk.list(&filter, 1).await.map_err(|error| failure(&error))?;
        Ok::<bool, Failure>(!found.is_empty())
    };
    if let Some(name) = &selection.sink
        && config.sinks.iter().all(|sink| sink.name.as_str() != name)
        && !is_there(Filter { sink: Some(SinkName::new(name.as_str())), ..Filter::default() }).await?
    {
        return Err(Failure::no_sink(config, name));
    }
    let missing = |what: &str, wanted: &str| {
        let wanted = printable(wanted);
        Failure::usage(format_args!("no entry has the {what} {wanted}\nhint: `inbox ls` lists ids and numbers"))
    };
    if let Some(id) = &selection.id
        && !is_there(Filter { id: Some(id.clone()), ..Filter::default() }).await?
    {
        return Err(missing("id", id));
    }
    if let Some(number) = selection.seq
        && !is_there(Filter { seq: Some(Seq(number)), ..Filter::default() }).await?
    {
        return Err(missing("number", &number.to_string()));
    }
    Ok(())
}

async fn act(inbox: &Inbox, action: Action) -> Result<(), Failure> {
    let (desk, audit) = (&*inbox.desk, &*inbox.audit);
    match action {
        Action::Ls { selection, json: false } => {
            let entries = desk.list(&selection.filter(), selection.limit()).await.map_err(|error| failure(&error))?;
            // Whether the list was cut is said on standard error, to keep the data clean.
            say_if_cut(entries.len(), selection.limit());
            emit(view::table(&entries, width()).as_bytes()).map(drop)
        }
        Action::Ls { selection, json: true } => each(desk, &selection, selection.limit(), false).await.map(drop),
        Action::Export { selection } if selection.is_user_alone() => {
            noted(audit, ("export", selection.words()), Unnoted::Stops, async || {
                Ok(((), persons::export(inbox, &selection).await?))
            })
            .await
        }
        // A person's data must not be cut because nobody thought of a limit.
        Action::Export { selection } => {
            noted(audit, ("export", selection.words()), Unnoted::Stops, async || {
                let count = each(desk, &selection, selection.limit.unwrap_or(EVERY), true).await?;
                Ok(((), count))
            })
            .await
        }
        Action::Audit { json, limit } => acts(audit, json, limit).await,
        // These need no open store.
        Action::Backup { .. }
        | Action::Restore { .. }
        | Action::Verify
        | Action::Erase { .. }
        | Action::Unseal { .. } => Ok(()),
        Action::Refused { body: false, json, limit } => refused(desk, false, json, limit).await.map(drop),
        Action::Refused { body: true, json, limit } => {
            let which = ("refused --body", format!("--limit {limit}"));
            noted(audit, which, Unnoted::Stops, async || Ok(((), refused(desk, true, json, limit).await?))).await
        }
        Action::Show { entry, body: false, json } => show(desk, &entry, false, json).await.map(drop),
        Action::Show { entry, body: true, json } => {
            let which = ("show --body", printable(&entry));
            noted(audit, which, Unnoted::Stops, async || Ok(((), show(desk, &entry, true, json).await?))).await
        }
        Action::Replay { selection } => {
            let count = noted(audit, ("replay", selection.words()), Unnoted::Stops, async || {
                let (count, _) = batches(&selection, async |filter, limit| desk.replay(&filter, limit).await).await?;
                Ok((count, count))
            });
            report(count.await?, "put back in line", &selection);
            Ok(())
        }
        Action::Park { selection, reason } => {
            let which = format!("{} --reason {reason:?}", selection.words());
            let count = noted(audit, ("park", which), Unnoted::Stops, async || {
                let (count, _) =
                    batches(&selection, async |filter, limit| desk.park(&filter, limit, &reason).await).await?;
                Ok((count, count))
            });
            report(count.await?, "parked", &selection);
            Ok(())
        }
        Action::Purge { selection, yes: _ } => {
            let (count, left) = noted(audit, ("purge", selection.words()), Unnoted::GoesOn, async || {
                let (count, left) = batches(&selection, async |filter, limit| desk.purge(&filter, limit).await).await?;
                Ok(((count, left), count))
            })
            .await?;
            report(count, "deleted", &selection);
            all_deleted(left)
        }
    }
}

/// Changes matching entries batch by batch, each entry once, so that a running server gets to write in between. Returns
/// how many were changed and how many stay as they are.
async fn batches(
    selection: &Selection,
    change: impl AsyncFn(Filter, usize) -> Result<Batch, Error>,
) -> Result<(u64, u64), Failure> {
    let mut filter = selection.meant()?;
    let (mut changed, mut left, limit) = (0, 0, selection.limit() as u64);
    while changed < limit {
        let wanted = PAGE.min(usize::try_from(limit - changed).unwrap_or(PAGE));
        let batch = change(filter.clone(), wanted).await.map_err(|error| failure(&error))?;
        changed += batch.changed;
        left += batch.left;
        let Some(last) = batch.last else { break };
        filter.after = Some(last);
    }
    Ok((changed, left))
}

/// Prints matching entries as NDJSON, page by page, so that any number of them fits in memory. Returns how many.
async fn each(desk: &dyn Desk, selection: &Selection, limit: usize, bodies: bool) -> Result<u64, Failure> {
    let mut printed = 0;
    let mut filter = selection.filter();
    let mut left = limit;
    while left > 0 {
        let wanted = left.min(PAGE);
        let entries = desk.list(&filter, wanted).await.map_err(|error| failure(&error))?;
        let mut text = Vec::new();
        for entry in &entries {
            line(desk, entry, bodies, &mut text).await?;
            // Events may be large: what is ready goes out.
            if text.len() > 1024 * 1024 {
                if emit(&text)?.is_break() {
                    return Ok(printed);
                }
                text.clear();
            }
            printed += 1;
        }
        if emit(&text)?.is_break() || entries.len() < wanted {
            return Ok(printed);
        }
        left -= entries.len();
        filter.before = entries.last().map(|entry| entry.seq);
    }
    say_if_cut(limit, limit);
    Ok(printed)
}

/// Says on standard error that a list ended at its limit, to keep the data clean.
fn say_if_cut(shown: usize, limit: usize) {
    if shown == limit {
        note(format_args!("the first {limit} entries; there may be more (--limit, --all)"));
    }
}

async fn line(desk: &dyn Desk, entry: &EntryView, body: bool, text: &mut Vec<u8>) -> Result<(), Failure> {
    let body = if body { desk.body(entry.seq).await.map_err(|error| failure(&error))? } else { None };
    json::entry(entry, body.as_deref(), None, text)
        .map_err(|error| Failure::ours(format_args!("entry {} cannot be written as JSON: {error}", entry.seq)))
}

async fn show(desk: &dyn Desk, wanted: &str, body: bool, json: bool) -> Result<u64, Failure> {
    let entries = find(desk, wanted).await.map_err(|error| failure(&error))?;
    if entries.is_empty() {
        return Err(Failure::usage(format_args!(
            "no entry has the id or the number {}\nhint: `inbox ls` lists both",
            printable(wanted)
        )));
    }
    let mut text = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if json {
            line(desk, entry, body, &mut text).await?;
            continue;
        }
        if index > 0 {
            text.push(b'\n');
        }
        text.extend_from_slice(view::page(entry).as_bytes());
        if body {
            text.push(b'\n');
            text.extend_from_slice(&desk.body(entry.seq).await.map_err(|error| failure(&error))?.unwrap_or_default());
            text.push(b'\n');
        }
    }
    emit(&text).map(|_| entries.len() as u64)
}

async fn refused(desk: &dyn Desk, body: bool, json: bool, limit: usize) -> Result<u64, Failure> {
    let found = desk.refused(limit).await.map_err(|error| failure(&error))?;
    let count = found.len() as u64;
    if !json {
        return emit(view::refused(&found, body, width()).as_bytes()).map(|_| count);
    }
    let mut text = Vec::new();
    for request in &found {
        json::refused(request, body, None, &mut text).map_err(|error| {
            Failure::ours(format_args!("request {} cannot be written as JSON: {error}", request.number))
        })?;
    }
    emit(&text).map(|_| count)
}

async fn acts(audit: &dyn Audit, json: bool, limit: usize) -> Result<(), Failure> {
    let found = audit.acts(limit).await.map_err(|error| failure(&error))?;
    if !json {
        return emit(view::acts(&found).as_bytes()).map(drop);
    }
    let mut text = Vec::new();
    for act in &found {
        json::act(act, &mut text)
            .map_err(|error| Failure::ours(format_args!("act {} cannot be written as JSON: {error}", act.number)))?;
    }
    emit(&text).map(drop)
}

/// Every entry with this id, and the one with this number: ids are digits as a rule, so either may be meant.
async fn find(desk: &dyn Desk, wanted: &str) -> Result<Vec<EntryView>, Error> {
    let by_id = Filter { id: Some(wanted.to_owned()), ..Filter::default() };
    let mut entries = desk.list(&by_id, PAGE).await?;
    if let Ok(number) = wanted.parse() {
        let by_seq = Filter { seq: Some(Seq(number)), ..Filter::default() };
        for entry in desk.list(&by_seq, 1).await? {
            if entries.iter().all(|found| found.seq != entry.seq) {
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

fn report(count: u64, what: &str, selection: &Selection) {
    let entries = if count == 1 { "entry" } else { "entries" };
    note(format_args!("{count} {entries} {what}"));
    if count == selection.limit() as u64 {
        note(format_args!("hint: that is the limit; run it again, or with --limit or --all, for the rest"));
    }
}

/// Whoever asked for a deletion must not take the rest for deleted.
fn all_deleted(left: u64) -> Result<(), Failure> {
    if left == 0 {
        return Ok(());
    }
    let entries = if left == 1 { "entry is" } else { "entries are" };
    Err(Failure::not_now(format!(
        "{left} matching {entries} unfinished and not deleted\nhint: wait until the work is done, or give it up with \
         `inbox park` and the same filters, then purge again"
    )))
}

/// A list that goes to a program or a file is not cut.
fn width() -> view::Width {
    if io::stdout().is_terminal() { view::Width::Terminal } else { view::Width::Whole }
}

#[cfg(test)]
mod tests;
