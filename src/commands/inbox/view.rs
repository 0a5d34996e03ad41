//! How entries look to people: a table, a page. Pure.
//!
//! Ids and reasons come from outside and may hold anything; [`printable`] keeps them from moving the cursor of a terminal.

use crate::{
    commands::table::{plain, trimmed},
    story::{
        told::{Next, Told, happened, next},
        words::{accounts, reason, time},
    },
};
use base::text::{is_plain, printable};
use inbox::{ActView, EntryView, RefusedView, StageView, State};
use std::fmt::Write;

/// Longest text in a cell of the list on a terminal.
const CELL: usize = 48;

/// How much of a long text a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// What fits a terminal: the rest is cut, and `…` says so.
    Terminal,
    /// All of it.
    Whole,
}

/// The list for people.
pub(super) fn table(entries: &[EntryView], width: Width) -> String {
    let cell = |text: &str| cell(text, width);
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let mut table = plain();
    table.set_header(["NUMBER", "STATE", "ACCEPTED", "ID", "CONNECTION", "USER", "ACCOUNTS", "WORK"]);
    for entry in entries {
        table.add_row([
            entry.seq.to_string(),
            entry.state.as_str().to_owned(),
            time(entry.accepted),
            cell(entry.delivery_id.as_str()),
            cell(entry.connection.as_str()),
            entry.user.as_ref().map_or_else(dash, |user| cell(user.as_str())),
            accounts(entry),
            work(&entry.stages, width),
        ]);
    }
    trimmed(&table)
}

/// Refused requests for people, with the start of their bodies where asked for.
pub(super) fn refused(requests: &[RefusedView], start: bool, width: Width) -> String {
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
            time(request.at),
            if request.status == 0 { dash() } else { request.status.to_string() },
            printable(&request.reason),
            request.bytes.map_or_else(dash, |bytes| bytes.to_string()),
            sender(&request.sender, width),
        ];
        if start {
            row.push(request.start.as_deref().map_or_else(dash, |start| printable(&String::from_utf8_lossy(start))));
        }
        table.add_row(row);
    }
    trimmed(&table)
}

/// What operators did, for people.
pub(super) fn acts(acts: &[ActView]) -> String {
    if acts.is_empty() {
        return "no acts\n".to_owned();
    }
    let mut table = plain();
    table.set_header(["NUMBER", "WHEN", "WHO", "WHAT", "ENTRIES", "WHICH"]);
    for ActView { number, at, act, entries } in acts {
        table.add_row([
            number.to_string(),
            time(*at),
            printable(&act.who),
            printable(&act.what),
            entries.map_or_else(dash, |entries| entries.to_string()),
            printable(&act.which),
        ]);
    }
    trimmed(&table)
}

/// A sender's address, and the subject of its certificate where it showed one.
fn sender(sender: &str, width: Width) -> String {
    let Ok(sender) = serde_json::from_str::<serde_json::Value>(sender) else { return dash() };
    let text = |pointer: &str| sender.pointer(pointer).and_then(serde_json::Value::as_str);
    match (text("/peer"), text("/certificate/subject")) {
        (Some(peer), Some(subject)) => cell(&format!("{peer} {subject}"), width),
        (Some(one), None) | (None, Some(one)) => cell(one, width),
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
    fact("number", entry.seq.to_string());
    fact("state", entry.state.as_str().to_owned());
    fact("event id", printable(entry.event_id.as_str()));
    fact("delivered as", printable(entry.delivery_id.as_str()));
    fact("type", format!("{} {}", printable(&entry.resource_type), printable(&entry.event_type)));
    fact("connection", printable(entry.connection.as_str()));
    fact("user", entry.user.as_ref().map_or_else(dash, |user| printable(user.as_str())));
    fact("channel", entry.channel.as_ref().map_or_else(dash, |channel| printable(channel.as_str())));
    fact("accepted", time(entry.accepted));
    fact("bytes", entry.bytes.to_string());
    fact("accounts", accounts(entry));
    if let Some(drift) = &entry.drift {
        fact("drift", printable(drift));
    }
    if entry.conflict {
        fact("conflict", "another entry with other content came first under this event id".to_owned());
    }
    if let Some(sender) = &entry.sender {
        fact("sender", printable(sender));
    }
    let mut table = plain();
    table.set_header(["WORK", "STATE", "ATTEMPTS", "CHANGED", "DUE", "REASON"]);
    for stage in &entry.stages {
        table.add_row([
            printable(stage.stage.as_str()),
            stage.state.as_str().to_owned(),
            stage.attempts.to_string(),
            time(stage.changed),
            stage.due.map_or_else(dash, time),
            reason(stage).map_or_else(dash, |reason| printable(&reason)),
        ]);
    }
    text.push('\n');
    text.push_str(&trimmed(&table));
    text
}

/// The story for people.
pub(super) fn story(entry: &EntryView, told: &Told) -> String {
    let mut text = String::from("\n");
    let mut table = plain();
    table.set_header(["WHEN", "WHO", "WHAT HAPPENED"]);
    for (at, who, what) in happened(entry, told) {
        table.add_row([time(at), printable(&who), printable(&what)]);
    }
    text.push_str(&trimmed(&table));
    let next = next(entry, told);
    if !next.is_empty() {
        let mut table = plain();
        table.set_header(["NEXT", "WHEN", "WHAT"]);
        for Next { stage, what, at } in next {
            table.add_row([printable(&stage), at.map_or_else(dash, time), printable(&what)]);
        }
        text.push('\n');
        text.push_str(&trimmed(&table));
    }
    text
}

/// Data for a terminal: what is not plainly visible is written as JSON writes it, so that JSON stays the same JSON. Lines and
/// tabs are left.
pub(super) fn for_terminal(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    let text = String::from_utf8_lossy(text);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        // Before the end of a line, it moves nothing.
        let ends_a_line = c == '\r' && rest.peek() == Some(&'\n');
        if is_plain(c) || ends_a_line || matches!(c, '\n' | '\t') {
            shown.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes everything.
                write!(shown, "\\u{unit:04x}").unwrap_or_default();
            }
        }
    }
    shown
}

/// What a cell of the list has room for.
fn cell(text: &str, width: Width) -> String {
    let shown = printable(text);
    if width == Width::Whole || shown.chars().count() <= CELL {
        return shown;
    }
    let mut cut: String = shown.chars().take(CELL - 1).collect();
    cut.push('…');
    cut
}

/// The stages that are not done, with what holds them up.
fn work(stages: &[StageView], width: Width) -> String {
    let open = stages.iter().filter(|stage| stage.state != State::Done).map(|stage| {
        let reason = reason(stage).map(|reason| format!(": {reason}")).unwrap_or_default();
        cell(&format!("{} {}{reason}", stage.stage, stage.state.as_str()), width)
    });
    let open: Vec<_> = open.collect();
    if open.is_empty() { dash() } else { open.join("\n") }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}
