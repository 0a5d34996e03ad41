//! An entry as a story: what happened to it, in order, and what comes next. Pure.

use super::words::time;
use base::clock::Timestamp;
use inbox::{ActView, Cause, Certainty, EntryView, ReadingView, Seq, SinkName, Stage, StageView, State, Story};
use std::collections::BTreeMap;

/// What is told of an entry beside its own facts.
#[derive(Debug, Default)]
pub struct Told {
    /// From the inbox.
    pub story: Story,
    /// Acts of operators that may have concerned it, the oldest first.
    pub acts: Vec<ActView>,
    /// Sinks that are paused, and since when.
    pub paused: BTreeMap<SinkName, Timestamp>,
}

/// What comes next for a part of the work.
#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    /// Of which part.
    pub stage: String,
    /// In one sentence.
    pub what: String,
    /// When, where that is known.
    pub at: Option<Timestamp>,
}

/// When, by or at what, and what: in the order of time.
#[must_use]
pub fn happened(entry: &EntryView, told: &Told) -> Vec<(Timestamp, String, String)> {
    let mut happened = vec![(entry.accepted, "request".to_owned(), request(entry))];
    if let Some(reading) = &told.story.reading {
        let completion = Stage::ACCOUNTS.as_str();
        happened.push((reading.started, completion.to_owned(), "began to read the accounts".to_owned()));
        if reading.pages > 0 || reading.found.is_some() {
            happened.push((reading.changed, completion.to_owned(), pages(reading)));
        }
    }
    for attempt in &entry.attempts {
        let reason = attempt.reason.as_deref().unwrap_or("no reason is known");
        let what = match attempt.state {
            State::Done => "was done; then it was replayed".to_owned(),
            State::Parked => format!("parked: {reason}"),
            State::Waiting | State::Leased => format!("failed: {reason}"),
        };
        happened.push((attempt.at, attempt.stage.as_str().to_owned(), what));
    }
    for stage in &entry.stages {
        let is_told = |stage: &StageView| {
            entry.attempts.iter().any(|attempt| attempt.stage == stage.stage && attempt.at == stage.changed)
        };
        let what = match stage.state {
            State::Done => done(stage),
            State::Leased => format!("attempt {} began", stage.attempts),
            State::Parked if !is_told(stage) => {
                format!("parked: {}", stage.reason.as_deref().unwrap_or("no reason is known"))
            }
            State::Parked | State::Waiting => continue,
        };
        happened.push((stage.changed, stage.stage.as_str().to_owned(), what));
    }
    for ActView { at, act, entries, .. } in &told.acts {
        let concerned = match entries {
            None => "it did not end".to_owned(),
            Some(1) => "1 entry".to_owned(),
            Some(entries) => format!("{entries} entries"),
        };
        happened.push((*at, act.who.clone(), format!("inbox {} {} ({concerned})", act.what, act.which)));
    }
    // Stable: what happened at one time stays in the order above.
    happened.sort_by_key(|(at, ..)| *at);
    happened
}

/// Who sent it, how much it was, and what was odd about it.
fn request(entry: &EntryView) -> String {
    let sender: serde_json::Value =
        entry.sender.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let text = |pointer: &str| sender.pointer(pointer).and_then(serde_json::Value::as_str);
    let mut parts = vec![format!("accepted {} bytes", entry.bytes)];
    parts.extend(text("/peer").map(|peer| format!("from {peer}")));
    parts.extend(text("/tls").map(|version| format!("TLS {version}")));
    parts.extend(text("/certificate/subject").map(|subject| format!("certificate of {subject}")));
    parts.extend(text("/would_be_refused").map(|why| format!("would be refused: {why}")));
    parts.extend(entry.drift.as_deref().map(|drift| format!("drift: {drift}")));
    parts.join(", ")
}

/// What came of a list of accounts so far.
fn pages(reading: &ReadingView) -> String {
    let pages = if reading.pages == 1 { "1 page".to_owned() } else { format!("{} pages", reading.pages) };
    let Some(found) = &reading.found else { return format!("{pages} so far") };
    let sure = match found.certainty {
        Certainty::AsAnnounced => "as many as announced",
        Certainty::Agreed => "read until two readings agreed",
        Certainty::Unsettled => "the list changed with every reading",
    };
    let unusable = match found.unusable {
        0 => String::new(),
        1 => ", and 1 item that is no account".to_owned(),
        some => format!(", and {some} items that are no accounts"),
    };
    format!("{} accounts in {pages}, {sure}{unusable}", found.accounts)
}

fn done(stage: &StageView) -> String {
    let what = match (&stage.stage, &stage.reason) {
        (_, Some(reason)) => reason.clone(),
        (Stage::Fetch(_), None) => "done".to_owned(),
        (Stage::Deliver(_), None) => "delivered".to_owned(),
    };
    match stage.attempts {
        0 => what,
        attempts => format!("{what}, at attempt {attempts}"),
    }
}

/// What comes next, for each part of the work that is not done.
#[must_use]
pub fn next(entry: &EntryView, told: &Told) -> Vec<Next> {
    let next = |stage: &StageView| {
        let (what, at) = comes(stage, entry, told)?;
        Some(Next { stage: stage.stage.as_str().to_owned(), what, at })
    };
    entry.stages.iter().filter_map(next).collect()
}

fn comes(stage: &StageView, entry: &EntryView, told: &Told) -> Option<(String, Option<Timestamp>)> {
    let paused = match &stage.stage {
        Stage::Deliver(sink) => told.paused.get(sink),
        Stage::Fetch(_) => None,
    };
    let behind = told.story.behind.iter().find(|(queued, _)| *queued == stage.stage);
    if let (State::Waiting, None, Some(first)) = (stage.state, paused, stage.held_by) {
        return Some((
            format!("waits until entry {first}, which is parked, is done or purged: `inbox show {first}`"),
            None,
        ));
    }
    Some(match (stage.state, paused, behind) {
        (State::Done, ..) => return None,
        (State::Leased, ..) => ("is under way; where it does not end by then, it is tried anew".to_owned(), stage.due),
        (State::Parked, ..) => (of_parked(stage, entry), None),
        (State::Waiting, Some(since), _) => {
            (format!("the sink is paused since {}: `sink resume {}`", time(*since), stage.stage), None)
        }
        (State::Waiting, None, Some((_, first))) => {
            (format!("waits until entry {first} of the same connection is done or parked"), None)
        }
        (State::Waiting, None, None) => match (group(stage, told), stage.attempts) {
            (Some([first, ..]), _) if stage.is_queued && *first != entry.seq => {
                (format!("leaves together with entry {first}, as one delivery"), None)
            }
            (_, _) if stage.is_queued => ("waits for its accounts".to_owned(), None),
            (group, 0) => (format!("is tried{}", others(group, entry)), stage.due),
            (group, _) => (format!("is tried again{}", others(group, entry)), stage.due),
        },
    })
}

/// The entries that leave together as one delivery, where this one does.
fn group<'a>(stage: &StageView, told: &'a Told) -> Option<&'a [Seq]> {
    told.story.merged.iter().find(|(of, _)| *of == stage.stage).map(|(_, members)| members.as_slice())
}

fn others(group: Option<&[Seq]>, entry: &EntryView) -> String {
    let others: Vec<String> =
        group.unwrap_or_default().iter().filter(|seq| **seq != entry.seq).map(Seq::to_string).collect();
    match others.len() {
        0 => String::new(),
        1 => format!(", together with entry {} as one delivery", others.join(", ")),
        _ => format!(", together with entries {} as one delivery", others.join(", ")),
    }
}

/// What takes a part of the work out of being parked.
fn of_parked(stage: &StageView, entry: &EntryView) -> String {
    let sink = match &stage.stage {
        Stage::Deliver(sink) => format!(" --sink {sink}"),
        Stage::Fetch(_) => String::new(),
    };
    let replay = format!("`inbox replay --seq {}{sink}`", entry.seq);
    match &stage.cause {
        Some(Cause::Needs) => "goes on together with the completion".to_owned(),
        Some(Cause::Credentials(_)) => {
            format!("goes on by itself when the credentials change or are taken for another event; or {replay}")
        }
        Some(cause) if cause.passes() => {
            let well = if sink.is_empty() {
                ""
            } else {
                "goes on by itself when the sink is well again (resume = \"auto\"); or "
            };
            format!("{well}{replay}")
        }
        _ => format!("nothing, until a person has mended the cause: then {replay}"),
    }
}
