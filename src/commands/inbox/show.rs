//! `show`: everything about an entry, as a story.

use super::{output::emit, view};
use crate::{
    commands::{Failure, guest::failure, hands::Hands},
    story::{
        find::{find, tell},
        json,
    },
};
use base::text::printable;

/// Prints the entries with an id, or the one with a number. Returns how many.
pub(super) async fn show(hands: Hands<'_>, wanted: &str, body: bool, is_json: bool) -> Result<u64, Failure> {
    let entries = find(hands.desk, wanted).await.map_err(|error| failure(&error))?;
    if entries.is_empty() {
        return Err(Failure::usage(format_args!(
            "no entry has the id or the number {}\nhint: `inbox ls` lists both",
            printable(wanted)
        )));
    }
    let mut text = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let told = tell((hands.desk, hands.audit, hands.sinks), entry).await.map_err(|error| failure(&error))?;
        let body = if body { hands.desk.body(entry.seq).await.map_err(|error| failure(&error))? } else { None };
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
        text.extend_from_slice(view::story(entry, &told).as_bytes());
        if let Some(body) = body {
            text.push(b'\n');
            text.extend_from_slice(&body);
            text.push(b'\n');
        }
    }
    emit(&text).map(|_| entries.len() as u64)
}
