//! How entries look: a table, a page, a line of JSON. Pure.
//!
//! Ids and reasons come from outside and may hold anything; [`printable`] keeps them from moving the cursor of a terminal.

use crate::inbox::{EntryView, RefusedView, StageView, State};
use base::text::is_plain;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt::Write;

/// Longest text in a cell of the list.
const CELL: usize = 48;

/// The list for people.
pub(super) fn table(entries: &[EntryView]) -> String {
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let mut table = plain();
    table.set_header(["NUMBER", "STATE", "ACCEPTED", "ID", "CONNECTION", "USER", "ACCOUNTS", "WORK"]);
    for entry in entries {
        table.add_row([
            entry.seq.to_string(),
            entry.state.as_str().to_owned(),
            entry.accepted.clone(),
            cell(&entry.delivery_id),
            cell(&entry.connection_id),
            entry.user_id.as_deref().map_or_else(dash, cell),
            accounts(entry),
            work(&entry.stages),
        ]);
    }
    trimmed(&table)
}

/// Refused requests for people, with the start of their bodies where asked for.
pub(super) fn refused(requests: &[RefusedView], start: bool) -> String {
    if requests.is_empty() {
        return "no refused requests\n".to_owned();
    }
    let mut table = plain();
    let mut header = vec!["NUMBER", "REFUSED", "STATUS", "REASON", "BYTES", "SENDER"];
    header.extend(start.then_some("START"));
    table.set_header(header);
    for request in requests {
        let mut row = vec![
            request.number.to_string(),
            request.refused.clone(),
            if request.status == 0 { dash() } else { request.status.to_string() },
            printable(&request.reason),
            request.bytes.map_or_else(dash, |bytes| bytes.to_string()),
            request.sender.as_ref().map_or_else(dash, sender),
        ];
        if start {
            row.push(request.start.as_deref().map_or_else(dash, printable));
        }
        table.add_row(row);
    }
    trimmed(&table)
}

/// A sender's address, and the subject of its certificate where it showed one.
fn sender(sender: &serde_json::Value) -> String {
    let text = |pointer: &str| sender.pointer(pointer).and_then(serde_json::Value::as_str);
    match (text("/peer"), text("/certificate/subject")) {
        (Some(peer), Some(subject)) => cell(&format!("{peer} {subject}")),
        (Some(one), None) | (None, Some(one)) => cell(one),
        (None, None) => dash(),
    }
}

/// Everything about one entry for people, its body apart.
pub(super) fn page(entry: &EntryView) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        // Writing into a String does not fail.
        writeln!(text, "{name:<14}{value}").ok();
    };
    let optional = |value: &Option<String>| value.as_deref().map_or_else(dash, printable);
    fact("number", entry.seq.to_string());
    fact("state", entry.state.as_str().to_owned());
    fact("event id", printable(&entry.id));
    fact("delivered as", printable(&entry.delivery_id));
    fact("type", format!("{} {}", printable(&entry.resource_type), printable(&entry.event_type)));
    fact("connection", printable(&entry.connection_id));
    fact("user", optional(&entry.user_id));
    fact("channel", optional(&entry.channel_definition_id));
    fact("accepted", entry.accepted.clone());
    fact("bytes", entry.bytes.to_string());
    fact("accounts", accounts(entry));
    if let Some(drift) = &entry.drift {
        fact("drift", printable(drift));
    }
    if entry.conflict {
        fact("conflict", "another entry with other content came first under this event id".to_owned());
    }
    if let Some(sender) = &entry.sender {
        fact("sender", printable(&sender.to_string()));
    }
    let mut table = plain();
    table.set_header(["WORK", "STATE", "ATTEMPTS", "CHANGED", "DUE", "REASON"]);
    for stage in &entry.stages {
        table.add_row([
            printable(&stage.stage),
            stage.state.as_str().to_owned(),
            stage.attempts.to_string(),
            stage.changed.clone(),
            stage.due.clone().unwrap_or_else(dash),
            optional(&stage.reason),
        ]);
    }
    text.push('\n');
    text.push_str(&trimmed(&table));
    text
}

/// Appends one line of NDJSON: the entry, and its stored event as `event` where given (without insignificant white
/// space, so that it stays one line).
pub(super) fn json(entry: &EntryView, body: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    #[derive(Serialize)]
    struct Exported<'a> {
        #[serde(flatten)]
        entry: &'a EntryView,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a RawValue>,
    }
    let body = body.map(event::compact);
    let event = body.as_deref().map(serde_json::from_slice).transpose()?;
    serde_json::to_writer(&mut *out, &Exported { entry, event })?;
    out.push(b'\n');
    Ok(())
}

/// Text from outside with everything escaped that is not plainly visible.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

/// What a cell of the list has room for.
fn cell(text: &str) -> String {
    let shown = printable(text);
    if shown.chars().count() <= CELL {
        return shown;
    }
    let mut cut: String = shown.chars().take(CELL - 1).collect();
    cut.push('…');
    cut
}

/// `2`, or `0 of 102` while they are not fetched, `102 fetched` after.
fn accounts(entry: &EntryView) -> String {
    match (entry.accounts_fetched, entry.account_count) {
        (Some(fetched), Some(announced)) if fetched != announced => format!("{fetched} fetched, {announced} announced"),
        (Some(fetched), _) => format!("{fetched} fetched"),
        (None, Some(announced)) if announced != entry.accounts_listed => {
            format!("{} of {announced}", entry.accounts_listed)
        }
        (None, _) => entry.accounts_listed.to_string(),
    }
}

/// The stages that are not done, with what holds them up.
fn work(stages: &[StageView]) -> String {
    let open = stages.iter().filter(|stage| stage.state != State::Done).map(|stage| {
        let reason = stage.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        cell(&format!("{} {}{reason}", stage.stage, stage.state.as_str()))
    });
    let open: Vec<_> = open.collect();
    if open.is_empty() { dash() } else { open.join("\n") }
}

fn dash() -> String {
    "-".to_owned()
}

/// Columns and nothing else, so that lines can be cut and searched.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table without the padding of its first column and the blanks at the ends of its lines.
fn trimmed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
        text.push('\n');
    }
    text
}
