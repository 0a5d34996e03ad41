//! What operators ask for: lists, the story of an entry, replays, parking, deletion. Values only; how they look is the
//! business of the commands.

use crate::{Cause, DeliveryId, Error, Facts, Found, Seq, SinkName, Span, Stage, State};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use std::fmt;

/// Which entries a command means. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Entries in this state.
    pub state: Option<State>,
    /// Entries that have a stage for this sink; with `state`, that stage is in that state.
    pub sink: Option<SinkName>,
    /// Of this connection.
    pub connection: Option<ConnectionId>,
    /// Of this user.
    pub user: Option<UserId>,
    /// With this event id or delivery id.
    pub id: Option<String>,
    /// With a part of the work whose reason has this text in it, or whose cause has this word.
    pub reason: Option<String>,
    /// With this number.
    pub seq: Option<Seq>,
    /// Accepted in this span. [`Desk::between`] says which numbers to look among.
    pub accepted: Span,
    /// Numbered below this one (paging, newest first).
    pub before: Option<Seq>,
    /// Numbered above this one (batches, oldest first).
    pub after: Option<Seq>,
}

/// Where a page of a list ends: an entry by when it was accepted, and by its number among those of the same millisecond. The next page
/// goes on behind it, whether the entry is still there or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Milliseconds by the store's own clock.
    pub at: i64,
    /// Its number.
    pub seq: Seq,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// What was found.
    pub entries: Vec<EntryView>,
    /// Where the next page goes on; `None`: everything was looked at.
    pub next: Option<Place>,
}

/// What one batch of a change by hand did. Changes are made in batches, so that a command never holds up the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Entries changed.
    pub changed: u64,
    /// Entries that match and stay as they are, such as unfinished ones that are to be purged.
    pub left: u64,
    /// The last entry looked at: go on behind it ([`Filter::after`]); `None` when no more match.
    pub last: Option<Seq>,
}

/// What becomes of entries that a sink is to be filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// They are counted.
    Trial,
    /// They get a part for the sink.
    Real,
}

/// One entry as operators see it, its body apart.
#[derive(Clone, Debug)]
pub struct EntryView {
    /// Its number.
    pub seq: Seq,
    /// The event's id.
    pub event_id: EventId,
    /// The id under which it is delivered.
    pub delivery_id: DeliveryId,
    /// Its stages taken together.
    pub state: State,
    /// `resource.id`
    pub connection: ConnectionId,
    /// `resource.user_id`
    pub user: Option<UserId>,
    /// `channel_definition_id`
    pub channel: Option<ChannelDefinitionId>,
    /// As sent.
    pub event_type: String,
    /// As sent.
    pub resource_type: String,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The announced number of accounts.
    pub account_count: Option<u64>,
    /// Accounts that the event itself lists.
    pub listed: u64,
    /// Accounts that were fetched, where they had to be.
    pub fetched: Option<u64>,
    /// Whether another entry came first under this event id.
    pub conflict: bool,
    /// What could not be typed, if anything.
    pub drift: Option<String>,
    /// Bytes of the body.
    pub bytes: u64,
    /// Who sent it, as one JSON object.
    pub sender: Option<String>,
    /// The parts of its work.
    pub stages: Vec<StageView>,
    /// Attempts that failed or were undone by a replay, the oldest first; of each stage the newest are kept.
    pub attempts: Vec<AttemptView>,
}

/// One stage as operators see it.
#[derive(Clone, Debug)]
pub struct StageView {
    /// Which part of the work. A sink may be one that is no longer configured.
    pub stage: Stage,
    /// Its state.
    pub state: State,
    /// How often it was leased.
    pub attempts: u32,
    /// Next attempt, or end of the lease.
    pub due: Option<Timestamp>,
    /// Last change.
    pub changed: Timestamp,
    /// Why it is parked.
    pub cause: Option<Cause>,
    /// Why it waits or is parked, in one sentence.
    pub reason: Option<String>,
    /// Whether it waits for an earlier entry of its connection, or for what it needs.
    pub is_queued: bool,
    /// The parked entry of the same connection that it waits behind, where its sink keeps strict order.
    pub held_by: Option<Seq>,
}

/// One attempt of the past.
#[derive(Clone, Debug)]
pub struct AttemptView {
    /// Which part of the work.
    pub stage: Stage,
    /// When it ended.
    pub at: Timestamp,
    /// The state that it ended in: waiting for another try, parked, or done.
    pub state: State,
    /// What happened, in one sentence.
    pub reason: Option<String>,
}

/// What is known of an entry beside [`EntryView`].
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The list of its accounts, as far as it was read.
    pub reading: Option<ReadingView>,
    /// For each of its stages that waits behind an earlier entry of its connection: the entry that is first in that line.
    pub behind: Vec<(Stage, Seq)>,
    /// What work is given of it; `None` where that is not known.
    pub facts: Option<Facts>,
    /// For each sink that gets it together with other entries as one delivery: all of these, in the order of their line.
    pub merged: Vec<(Stage, Vec<Seq>)>,
}

/// A list of accounts that was read, or is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingView {
    /// When it began.
    pub started: Timestamp,
    /// When its last page came.
    pub changed: Timestamp,
    /// Pages that came.
    pub pages: u64,
    /// What is in it; `None`: it goes on.
    pub found: Option<Found>,
}

/// A refused request as operators see it.
#[derive(Clone, Debug)]
pub struct RefusedView {
    /// Its number.
    pub number: i64,
    /// When it was answered.
    pub at: Timestamp,
    /// The `code` of the answer.
    pub reason: String,
    /// The status of the answer; 0: the connection was ended without one.
    pub status: u16,
    /// Bytes of the body that came or were announced, if known.
    pub bytes: Option<u64>,
    /// Who sent it, as one JSON object.
    pub sender: String,
    /// How the body began, where it was kept.
    pub start: Option<Bytes>,
}

/// What operators' commands need of an inbox.
///
/// Every method is cancel safe in this sense: when its future is dropped, the change either happens whole or not at all.
///
/// # Errors
/// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: nothing of that batch was changed; try again later.
#[async_trait]
pub trait Desk: Send + Sync + fmt::Debug {
    /// Entries that match, newest first, at most `limit`.
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error>;

    /// Entries that match, the one that was accepted last first, at most `limit`: those behind a place. What no index finds is
    /// looked for among the next `looked` entries alone, so that no page takes long however many entries there are; a page may
    /// then be empty, and not be the last one.
    async fn page(&self, filter: &Filter, behind: Option<Place>, looked: usize, limit: usize) -> Result<Page, Error>;

    /// The event of an entry exactly as it came; `None` when there is no such entry.
    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error>;

    /// The first and the last number of the entries that were accepted in a span of time; `None`: there are none. Numbers between
    /// them may be of entries that were accepted at other times.
    async fn between(&self, span: Span) -> Result<Option<(Seq, Seq)>, Error>;

    /// What is known of an entry beside what [`list`](Self::list) says.
    async fn story(&self, seq: Seq) -> Result<Story, Error>;

    /// Puts matching entries' work (of one sink, where the filter names one) back in line: a batch of at most `limit`
    /// entries, oldest first. Of an entry that has parked work, that work goes back, else what is done is done again. A parked
    /// fetch always goes back, and with it every delivery that was parked because of the fetch, also at other sinks.
    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error>;

    /// Gives a sink what it never had: of the next `limit` entries that match, oldest first, each that has no part for the sink gets
    /// one, in its old place of the line; what is there stays as it is. A [`trial`](Fill::Trial) changes nothing. `changed` are those
    /// that get one, `left` those that have one. `None`: this inbox has never seen the sink.
    async fn fill(&self, sink: &SinkName, filter: &Filter, limit: usize, how: Fill) -> Result<Option<Batch>, Error>;

    /// Hands a batch of matching entries' work over from the sink that the filter names to another one, oldest first: what waits
    /// begins anew there, and what is parked stays parked. Where the other sink has it already, the old part ends. What somebody works
    /// on is `left`. `None`: this inbox has never seen one of the sinks.
    async fn hand_over(&self, filter: &Filter, to: &SinkName, limit: usize) -> Result<Option<Batch>, Error>;

    /// Parks a batch of matching unfinished entries.
    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error>;

    /// Deletes a batch of matching entries that are done or parked.
    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error>;

    /// Requests that were refused in a span of time, newest first, at most `limit`.
    async fn refused(&self, span: Span, limit: usize) -> Result<Vec<RefusedView>, Error>;
}
