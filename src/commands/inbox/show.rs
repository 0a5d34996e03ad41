//! `show`: everything about an entry, as a story.

use super::{
    json,
    output::emit,
    selection::may_concern,
    story::{self, Told},
    view,
};
use crate::commands::{Failure, guest::failure};
use base::text::printable;
use inbox::{Desk, EntryView, Error, Filter, Inbox, Seq, Span};

/// Entries that may have one id; more would be a flood of conflicts.
const MOST: usize = 500;
/// Acts of operators that are looked through.
const ACTS: usize = 1000;

/// Prints the entries with an id, or the one with a number. Returns how many.
pub(super) async fn show(inbox: &Inbox, wanted: &str, body: bool, is_json: bool) -> Result<u64, Failure> {
    let entries = find(&*inbox.desk, wanted).await.map_err(|error| failure(&error))?;
    if entries.is_empty() {
        return Err(Failure::usage(format_args!(
            "no entry has the id or the number {}\nhint: `inbox ls` lists both",
            printable(wanted)
        )));
    }
    let mut text = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let told = tell(inbox, entry).await.map_err(|error| failure(&error))?;
        let body = if body { inbox.desk.body(entry.seq).await.map_err(|error| failure(&error))? } else { None };
        if is_json {
            json::entry(entry, Some(&told), body.as_deref(), None, &mut text).map_err(|error| {
                Failure::ours(format_args!("entry {} cannot be written as JSON: {error}", entry.seq))
            })?;
            continue;
        }
        if index > 0 {
            text.push(b'\n');
        }
        text.extend_from_slice(view::page(entry).as_bytes());
        text.extend_from_slice(story::page(entry, &told).as_bytes());
        if let Some(body) = body {
            text.push(b'\n');
            text.extend_from_slice(&body);
            text.push(b'\n');
        }
    }
    emit(&text).map(|_| entries.len() as u64)
}

/// What is told of an entry beside its own facts.
async fn tell(inbox: &Inbox, entry: &EntryView) -> Result<Told, Error> {
    let since = Span { since: Some(entry.accepted), until: None };
    let mut acts = inbox.audit.acts(since, ACTS).await?;
    acts.retain(|act| may_concern(act, entry));
    acts.reverse();
    Ok(Told { story: inbox.desk.story(entry.seq).await?, acts, paused: inbox.sinks.paused().await? })
}

/// Every entry with this id, and the one with this number: ids are digits as a rule, so either may be meant.
async fn find(desk: &dyn Desk, wanted: &str) -> Result<Vec<EntryView>, Error> {
    let by_id = Filter { id: Some(wanted.to_owned()), ..Filter::default() };
    let mut entries = desk.list(&by_id, MOST).await?;
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
