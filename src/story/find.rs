//! What a story is made of, from the inbox.

use super::told::Told;
use base::clock::Timestamp;
use inbox::{ActView, Audit, Desk, EntryView, Error, Filter, Seq, Sinks, Span};

/// Entries that may have one id; more would be a flood of conflicts.
const MOST: usize = 500;
/// Acts of operators that are looked through.
const ACTS: usize = 1000;

/// What is told of an entry beside its own facts.
///
/// # Errors
/// Those of the inbox.
pub async fn tell((desk, audit, sinks): (&dyn Desk, &dyn Audit, &dyn Sinks), entry: &EntryView) -> Result<Told, Error> {
    let since = Span { since: Some(entry.accepted), until: None };
    let mut acts = audit.acts(since, ACTS).await?;
    acts.retain(|act| may_concern(act, entry));
    acts.reverse();
    Ok(Told { story: desk.story(entry.seq).await?, acts, paused: sinks.paused().await? })
}

/// Every entry with this id, and the one with this number: ids are digits as a rule, so either may be meant.
///
/// # Errors
/// Those of the inbox.
pub async fn find(desk: &dyn Desk, wanted: &str) -> Result<Vec<EntryView>, Error> {
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

/// The same filter, with the numbers that its span of time leaves, so that no command looks through years for an hour.
///
/// # Errors
/// Those of the inbox.
pub async fn bounded(desk: &dyn Desk, filter: Filter) -> Result<Filter, Error> {
    if filter.accepted.is_all() {
        return Ok(filter);
    }
    Ok(match desk.between(filter.accepted).await? {
        Some((Seq(first), Seq(last))) => {
            Filter { after: Some(Seq(first.saturating_sub(1))), before: Some(Seq(last.saturating_add(1))), ..filter }
        }
        // Numbers begin with 1.
        None => Filter { before: Some(Seq(1)), ..filter },
    })
}

/// Whether an act of an operator may have concerned an entry, by the options that the audit trail has of it. The state that the
/// entry was in at that time is not known.
#[must_use]
pub fn may_concern(view: &ActView, entry: &EntryView) -> bool {
    let ActView { act, entries, .. } = view;
    if *entries == Some(0) {
        return false;
    }
    let is_id = |word: &str| word == entry.event_id.as_str() || word == entry.delivery_id.as_str();
    let is_seq = |word: &str| word == entry.seq.to_string();
    match act.what.as_str() {
        "show --body" => is_id(&act.which) || is_seq(&act.which),
        "move" => {
            let of = |name: &str| act.which.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next());
            entry.stages.iter().any(|stage| of("--from ") == Some(stage.stage.as_str()))
        }
        "replay" | "park" | "purge" | "export" | "reveal" => {
            let options = act.which.split_once(" --reason ").map_or(act.which.as_str(), |(options, _)| options);
            options.split("--").filter_map(|option| option.trim_end().split_once(' ')).all(|(name, value)| match name {
                "seq" => is_seq(value),
                "id" => is_id(value),
                "connection" => value == entry.connection.as_str(),
                "user" => entry.user.as_ref().is_some_and(|user| user.as_str() == value),
                "sink" => entry.stages.iter().any(|stage| stage.stage.as_str() == value),
                "since" => of_time(value).is_none_or(|since| since <= entry.accepted),
                "until" => of_time(value).is_none_or(|until| entry.accepted < until),
                _ => true,
            })
        }
        _ => false,
    }
}

fn of_time(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}
