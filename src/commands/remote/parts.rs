//! What the admin API says, as JSON, and what an inbox beside the command would say.

use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use inbox::{
    AttemptView, Cause, Certainty, DeliveryId, EntryView, Fetch, Found, ReadingView, RefusedView, Seq, Stage,
    StageView, State,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// As `story::json` writes it.
#[derive(Deserialize)]
pub(super) struct Entry {
    seq: i64,
    id: String,
    delivery_id: String,
    state: String,
    connection_id: String,
    user_id: Option<String>,
    channel_definition_id: Option<String>,
    event_type: String,
    resource_type: String,
    accepted: String,
    account_count: Option<u64>,
    accounts_listed: u64,
    accounts_fetched: Option<u64>,
    conflict: bool,
    drift: Option<String>,
    bytes: u64,
    sender: Option<Box<RawValue>>,
    stages: Vec<Part>,
    attempts: Vec<Part>,
}

/// A stage, or an attempt.
#[derive(Deserialize)]
struct Part {
    stage: String,
    state: String,
    #[serde(default)]
    attempts: u32,
    due: Option<String>,
    #[serde(alias = "at")]
    changed: String,
    cause: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Reading {
    started: String,
    changed: String,
    pages: u64,
    accounts: Option<u64>,
    unusable: Option<u64>,
    certainty: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Refused {
    number: i64,
    #[serde(rename = "refused")]
    at: String,
    reason: String,
    status: u16,
    bytes: Option<u64>,
    sender: Option<Box<RawValue>>,
    /// How the body began, where that was asked for.
    #[serde(default)]
    start: Option<String>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            seq: Seq(entry.seq),
            event_id: EventId::new(entry.id),
            delivery_id: DeliveryId::new(entry.delivery_id),
            state: state(&entry.state),
            connection: ConnectionId::new(entry.connection_id),
            user: entry.user_id.map(UserId::new),
            channel: entry.channel_definition_id.map(ChannelDefinitionId::new),
            event_type: entry.event_type,
            resource_type: entry.resource_type,
            accepted: time(&entry.accepted),
            account_count: entry.account_count,
            listed: entry.accounts_listed,
            fetched: entry.accounts_fetched,
            conflict: entry.conflict,
            drift: entry.drift,
            bytes: entry.bytes,
            sender: entry.sender.map(|sender| sender.get().to_owned()),
            stages: entry.stages.into_iter().map(StageView::from).collect(),
            attempts: entry.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<Part> for StageView {
    fn from(part: Part) -> Self {
        Self {
            stage: stage(&part.stage),
            state: state(&part.state),
            attempts: part.attempts,
            due: part.due.as_deref().map(time),
            changed: time(&part.changed),
            cause: part.cause.as_deref().and_then(|cause| Cause::parse(cause, None)),
            reason: part.reason,
            is_queued: false,
            held_by: None,
        }
    }
}

impl From<Part> for AttemptView {
    fn from(part: Part) -> Self {
        Self { stage: stage(&part.stage), at: time(&part.changed), state: state(&part.state), reason: part.reason }
    }
}

impl From<Reading> for ReadingView {
    fn from(reading: Reading) -> Self {
        let found = reading.accounts.zip(reading.certainty).map(|(accounts, certainty)| Found {
            accounts,
            unusable: reading.unusable.unwrap_or_default(),
            certainty: match certainty.as_str() {
                "as_announced" => Certainty::AsAnnounced,
                "agreed" => Certainty::Agreed,
                _ => Certainty::Unsettled,
            },
        });
        Self { started: time(&reading.started), changed: time(&reading.changed), pages: reading.pages, found }
    }
}

impl From<Refused> for RefusedView {
    fn from(refused: Refused) -> Self {
        Self {
            number: refused.number,
            at: time(&refused.at),
            reason: refused.reason,
            status: refused.status,
            bytes: refused.bytes,
            sender: refused.sender.map(|sender| sender.get().to_owned()).unwrap_or_default(),
            start: refused.start.map(Bytes::from),
        }
    }
}

/// A part of the work by its word.
pub(super) fn stage(word: &str) -> Stage {
    let fetch = Fetch::ALL.into_iter().find(|fetch| fetch.as_str() == word);
    fetch.map_or_else(|| Stage::deliver(word), Stage::Fetch)
}

/// A word of a later version counts as one that is not done.
fn state(word: &str) -> State {
    State::ALL.into_iter().find(|state| state.as_str() == word).unwrap_or(State::Waiting)
}

/// RFC 3339, or milliseconds.
pub(super) fn time(text: &str) -> Timestamp {
    let at = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
    Timestamp::from_millis(at.ok().or_else(|| text.parse().ok()).unwrap_or_default())
}
