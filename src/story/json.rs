//! How entries look to programs: lines of JSON whose members never change their meaning. Pure.

use super::{
    told::{self, Told},
    words::{reason, time},
};
use inbox::{
    ActView, Certainty, DeliveryId, EntryView, HeldReading, Place, ReadingId, ReadingView, RefusedView, Seq, State,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{fmt, str::FromStr};

/// Where a page of a list ends, as a word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(pub Place);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.at, self.0.seq.0)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A time before 1970 begins with a sign.
        let place = text.rsplit_once('-').and_then(|(at, seq)| {
            let seq = seq.bytes().all(|byte| byte.is_ascii_digit()).then(|| seq.parse().ok()).flatten()?;
            Some(Place { at: at.parse().ok()?, seq: Seq(seq) })
        });
        place.map(Self).ok_or("is no cursor: take `next` of the page before as it is")
    }
}

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// One entry.
#[derive(Serialize)]
struct Entry<'a> {
    /// `entry`, where lines of other kinds come too.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    seq: Seq,
    id: &'a str,
    delivery_id: &'a DeliveryId,
    state: State,
    connection_id: &'a str,
    user_id: Option<&'a str>,
    channel_definition_id: Option<&'a str>,
    event_type: &'a str,
    resource_type: &'a str,
    /// RFC 3339, as all times.
    accepted: String,
    account_count: Option<u64>,
    accounts_listed: u64,
    accounts_fetched: Option<u64>,
    conflict: bool,
    drift: Option<&'a str>,
    bytes: u64,
    sender: Option<&'a RawValue>,
    stages: Vec<Stage<'a>>,
    attempts: Vec<Attempt<'a>>,
    #[serde(flatten)]
    story: Option<Story<'a>>,
    /// The stored event without insignificant white space, so that a line stays one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
}

/// What `show` tells beside the entry's own facts.
#[derive(Serialize)]
struct Story<'a> {
    reading: Option<Reading>,
    /// Acts of operators that may have concerned it, the oldest first.
    acts: Vec<Act<'a>>,
    /// What comes next for each part of its work that is not done.
    next: Vec<Next>,
    /// For each sink that gets it together with other entries as one delivery: all of these, in their order.
    merged: Vec<Merged<'a>>,
}

/// Entries that are one delivery.
#[derive(Serialize)]
struct Merged<'a> {
    stage: &'a str,
    entries: &'a [Seq],
}

/// The list of its accounts.
#[derive(Serialize)]
struct Reading {
    started: String,
    /// When its last page came.
    changed: String,
    pages: u64,
    /// This and the next two are `null` until it is finished.
    accounts: Option<u64>,
    unusable: Option<u64>,
    /// `as_announced`, `agreed`, `unsettled`
    certainty: Option<&'static str>,
}

#[derive(Serialize)]
struct Next {
    stage: String,
    what: String,
    at: Option<String>,
}

/// One part of its work.
#[derive(Serialize)]
struct Stage<'a> {
    #[serde(rename = "stage")]
    name: &'a str,
    state: State,
    attempts: u32,
    due: Option<String>,
    changed: String,
    cause: Option<&'static str>,
    reason: Option<String>,
}

/// One attempt of the past.
#[derive(Serialize)]
struct Attempt<'a> {
    stage: &'a str,
    at: String,
    state: State,
    reason: Option<&'a str>,
}

/// A refused request.
#[derive(Serialize)]
struct Refused<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    number: i64,
    #[serde(rename = "refused")]
    at: String,
    reason: &'a str,
    status: u16,
    bytes: Option<u64>,
    sender: Option<&'a RawValue>,
    /// What is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
}

/// What an operator did.
#[derive(Serialize)]
struct Act<'a> {
    number: i64,
    at: String,
    who: &'a str,
    what: &'a str,
    which: &'a str,
    entries: Option<u64>,
}

/// Appends the line of an entry, with its story, its stored event and the kind of the line where given.
///
/// # Errors
/// A kept text that should be JSON is none.
pub fn entry(
    entry: &EntryView,
    told: Option<&Told>,
    body: Option<&[u8]>,
    kind: Option<&'static str>,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let body = body.map(event::compact);
    let line = Entry {
        kind,
        seq: entry.seq,
        id: entry.event_id.as_str(),
        delivery_id: &entry.delivery_id,
        state: entry.state,
        connection_id: entry.connection.as_str(),
        user_id: entry.user.as_ref().map(event::UserId::as_str),
        channel_definition_id: entry.channel.as_ref().map(event::ChannelDefinitionId::as_str),
        event_type: &entry.event_type,
        resource_type: &entry.resource_type,
        accepted: time(entry.accepted),
        account_count: entry.account_count,
        accounts_listed: entry.listed,
        accounts_fetched: entry.fetched,
        conflict: entry.conflict,
        drift: entry.drift.as_deref(),
        bytes: entry.bytes,
        sender: entry.sender.as_deref().and_then(|json| serde_json::from_str(json).ok()),
        stages: entry.stages.iter().map(stage).collect(),
        attempts: entry.attempts.iter().map(attempt).collect(),
        story: told.map(|told| of_story(entry, told)),
        event: body.as_deref().map(serde_json::from_slice).transpose()?,
    };
    write(&line, out)
}

fn of_story<'a>(entry: &EntryView, told: &'a Told) -> Story<'a> {
    let next = told::next(entry, told).into_iter();
    Story {
        reading: told.story.reading.as_ref().map(reading),
        acts: told.acts.iter().map(of_act).collect(),
        next: next.map(|next| Next { stage: next.stage, what: next.what, at: next.at.map(time) }).collect(),
        merged: told.story.merged.iter().map(|(stage, entries)| Merged { stage: stage.as_str(), entries }).collect(),
    }
}

fn reading(reading: &ReadingView) -> Reading {
    let ReadingView { started, changed, pages, found } = reading;
    Reading {
        started: time(*started),
        changed: time(*changed),
        pages: *pages,
        accounts: found.map(|found| found.accounts),
        unusable: found.map(|found| found.unusable),
        certainty: found.map(|found| match found.certainty {
            Certainty::AsAnnounced => "as_announced",
            Certainty::Agreed => "agreed",
            Certainty::Unsettled => "unsettled",
        }),
    }
}

fn stage(stage: &inbox::StageView) -> Stage<'_> {
    Stage {
        name: stage.stage.as_str(),
        state: stage.state,
        attempts: stage.attempts,
        due: stage.due.map(time),
        changed: time(stage.changed),
        cause: stage.cause.as_ref().map(inbox::Cause::as_str),
        reason: reason(stage),
    }
}

fn attempt(attempt: &inbox::AttemptView) -> Attempt<'_> {
    Attempt {
        stage: attempt.stage.as_str(),
        at: time(attempt.at),
        state: attempt.state,
        reason: attempt.reason.as_deref(),
    }
}

/// Appends the line of a refused request, with the start of its body where asked for.
///
/// # Errors
/// A kept text that should be JSON is none.
pub fn refused(
    request: &RefusedView,
    start: bool,
    kind: Option<&'static str>,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let start = request.start.as_deref().filter(|_| start);
    let line = Refused {
        kind,
        number: request.number,
        at: time(request.at),
        reason: &request.reason,
        status: request.status,
        bytes: request.bytes,
        sender: serde_json::from_str(&request.sender).ok(),
        start: start.map(|start| String::from_utf8_lossy(start).into_owned()),
    };
    write(&line, out)
}

/// What was read of a connection, without its accounts.
#[derive(Serialize)]
struct Held<'a> {
    kind: &'static str,
    #[serde(rename = "reading")]
    number: ReadingId,
    connection_id: &'a str,
    user_id: Option<&'a str>,
    started: String,
    /// The connection's own JSON.
    connection: Option<&'a RawValue>,
}

/// Appends the beginning of the line of a reading. Its accounts follow, joined by commas, and then [`READING_END`].
///
/// # Errors
/// A kept text that should be JSON is none.
pub fn held(reading: &HeldReading, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let resource = reading.resource.as_deref().map(event::compact);
    let line = Held {
        kind: "reading",
        number: reading.id,
        connection_id: reading.connection.as_str(),
        user_id: reading.user.as_ref().map(event::UserId::as_str),
        started: time(reading.started),
        connection: resource.as_deref().map(serde_json::from_slice).transpose()?,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.pop();
    out.extend_from_slice(b",\"accounts\":[");
    Ok(())
}

/// What ends the line of a reading.
pub const READING_END: &[u8] = b"]}\n";

/// Appends the line of an operator's act.
///
/// # Errors
/// A kept text that should be JSON is none.
pub fn act(view: &ActView, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    write(&of_act(view), out)
}

fn of_act(view: &ActView) -> Act<'_> {
    let ActView { number, at, act, entries } = view;
    Act { number: *number, at: time(*at), who: &act.who, what: &act.what, which: &act.which, entries: *entries }
}

fn write(line: &impl Serialize, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_word_that_leads_back() {
        for (at, seq) in [(0, 1), (1_769_846_400_123, 42), (-5, 7), (i64::MAX, i64::MAX)] {
            let cursor = Cursor(Place { at, seq: Seq(seq) });
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for odd in ["", "1", "-", "1-", "-1", "1--1", "a-1", "1-b", "1-+1", "99999999999999999999-1"] {
            assert!(odd.parse::<Cursor>().is_err(), "{odd}");
        }
    }
}
