//! The durable middle: what was accepted, and what is still to be done about it.
//!
//! In: events from the receiver. Out: leases on work for the workers. An **entry** is one accepted event. Its work is cut
//! in **stages**: one [`Stage::Completion`] where the accounts must be fetched, then one [`Stage::Sink`] for each
//! configured sink. Each stage of an entry has its own state, lease, attempts and reason, so that a dead sink delays no
//! other; the entry's state is theirs taken together ([`State`]).
//!
//! Promises, each held by the inbox tests in `tests/it/inbox.rs`, which run on every back end:
//! - `accept` returns after the entry is synced to disk; the same bytes are stored once (a constraint, not a look-up).
//! - A stage is leased to one worker at a time. A lease has an expiry and a token; `settle` needs both. A lease that is
//!   never settled is found again, and an entry that repeatedly loses its lease is parked instead of tried for ever.
//! - Per stage, the entries of one connection are leased one after the other in the order of acceptance. A parked entry
//!   leaves that line.
//! - Nothing unfinished is ever deleted.
//!
//! Not here: what work means (`work`), how long to wait after a failure (`work::retry`).

#[cfg(test)]
pub(crate) mod double;
pub mod settings;
mod sqlite;

pub use sqlite::{Access, Sqlite};

use self::settings as config;
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::Event;
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};

/// Opens the configured store.
///
/// # Errors
/// [`Error::Open`], with what to do.
pub fn open(config: &config::Inbox, sinks: &[String], access: Access) -> Result<Arc<dyn Inbox>, Error> {
    match &config.store {
        config::Store::Sqlite(path) => Ok(Arc::new(Sqlite::open(path, config, sinks, access)?)),
    }
}

/// Number of an entry, in order of acceptance. Unique in one inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which part of an entry's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Fetch the accounts that the event left out.
    Completion,
    /// Hand the entry to the sink with this number.
    Sink(SinkId),
}

/// A sink's number in this inbox; given to its name once and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId(pub i64);

/// State of a stage, and of an entry as its stages taken together: parked if any stage is parked, else leased if any is
/// leased, else waiting if any waits, else done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be worked on: now, at a later time, or after an earlier entry of its connection.
    Waiting,
    /// A worker has it.
    Leased,
    /// Nothing is left to do.
    Done,
    /// A person must act; the reason says how.
    Parked,
}

impl State {
    /// All states, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Leased, Self::Done, Self::Parked];

    /// The word for it in output, metrics and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Parked => "parked",
        }
    }
}

/// An event about to be accepted.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// What was read from the body.
    pub event: Event,
    /// The body, exactly as it came.
    pub body: Bytes,
    /// When its last byte came.
    pub received: Timestamp,
    /// Whether it is only a hint: its resource is fetched from the API, and what it says itself is not delivered.
    pub confirm: bool,
    /// Who sent it, as one JSON object without secrets (peer address, identity of the client certificate).
    pub sender: Option<String>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored and synced.
    Stored {
        /// Its number.
        seq: Seq,
        /// Whether another event with the same id but other content was there before.
        conflict: bool,
    },
    /// The same bytes were stored before.
    Duplicate {
        /// Number of the first one.
        seq: Seq,
    },
}

/// Work handed to one worker for a limited time.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Which entry.
    pub seq: Seq,
    /// Which part of its work.
    pub stage: Stage,
    /// Proves the holder; new with every lease.
    pub token: i64,
    /// When the stage may be leased to another.
    pub expires: Timestamp,
    /// How often the stage was leased, this one included. Stored before the work begins.
    pub attempts: u32,
    /// When the first of an unbroken run of failures happened.
    pub failing_since: Option<Timestamp>,
    /// The run of doubtful failures that the last try ended with.
    pub doubts: Doubts,
    /// What the entry is about.
    pub entry: Arc<EntryFacts>,
    /// The event exactly as it came.
    pub body: Bytes,
    pub(crate) _hold: Hold,
}

/// Dropped with the last copy of a lease, it tells the store that nobody here works on that any more.
pub(crate) type Hold = Arc<dyn fmt::Debug + Send + Sync>;

/// An unbroken run of failures that were an answer, and not the lack of one: it may be meant, or be another's mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// How many.
    pub tries: u32,
    /// When the first of them happened.
    pub since: Option<Timestamp>,
}

/// The facts of an entry that work needs, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    /// The event's own id.
    pub event_id: String,
    /// Distinct for every entry: the event's id, extended where another entry came first under that id.
    pub delivery_id: String,
    /// `CloudEvents` type.
    pub cloud_type: String,
    /// The connection.
    pub connection: String,
    /// The user, if the event named one.
    pub user: Option<String>,
    /// The channel, if the event named one.
    pub channel: Option<String>,
    /// The channel's mode, if found.
    pub mode: Option<String>,
    /// Seconds since the epoch, from the event.
    pub created: Option<i64>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The announced number of accounts.
    pub account_count: Option<u64>,
    /// Accounts that the event itself lists.
    pub listed: u64,
    /// Whether it is only a hint ([`NewEntry::confirm`]).
    pub confirm: bool,
    /// How it was completed, where it had to be.
    pub completion: Option<Completion>,
}

/// How an entry was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Completion {
    /// Its accounts were fetched.
    Fetched {
        /// The reading that holds the pages.
        reading: ReadingId,
        /// What is in it.
        found: Found,
    },
    /// The API does not know the connection any more: there are none to fetch.
    Gone,
}

/// What a finished reading holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Distinct accounts.
    pub accounts: u64,
    /// How sure that is.
    pub certainty: Certainty,
}

impl Found {
    /// Whether that is not what an event announced, or not sure. What a hint announced means nothing.
    #[must_use]
    pub fn differs(&self, entry: &EntryFacts) -> bool {
        let is_other = !entry.confirm && entry.account_count.is_some_and(|announced| announced != self.accounts);
        is_other || self.certainty == Certainty::Unsettled
    }
}

/// Why a list of accounts was taken for whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It is as long as the event announced, and nothing looked wrong: sure for events that announced that number.
    AsAnnounced,
    /// It was read until two passes agreed.
    Agreed,
    /// It changed with every pass: all that was seen is in it, also what may be gone.
    Unsettled,
}

/// Number of one reading of a connection's accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ReadingId(pub i64);

/// How a worker ends its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stage is done.
    Done,
    /// The completion is done; `reading` holds the accounts.
    Completed {
        /// Where the accounts are.
        reading: ReadingId,
        /// What is in it.
        found: Found,
    },
    /// The completion is done: there are no accounts, because the connection is gone.
    Gone,
    /// Try again, not before `due`.
    Retry {
        /// Earliest time of the next attempt.
        due: Timestamp,
        /// One sentence for people.
        reason: String,
        /// Whether it adds to the run of [`Doubts`]; if not, that ends.
        is_doubtful: bool,
    },
    /// Stop until a person acts.
    Park {
        /// One sentence for people: what happened and what to do.
        reason: String,
    },
    /// Stop until the credentials with which it was tried are other ones, or a person acts.
    ParkUntil {
        /// One sentence for people: what happened and what to do.
        reason: String,
        /// Stands for the credentials; see [`Awaiting`].
        credentials: String,
    },
    /// Not tried, because the other side is left alone: the attempt does not count, nor does it begin a run of failures.
    Postpone {
        /// Earliest time of the next attempt.
        due: Timestamp,
        /// One sentence for people.
        reason: String,
    },
    /// Not tried after all (shutdown): the attempt does not count.
    GiveBack,
}

/// Parked work that waits for other credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Awaiting {
    /// The user, if the events name one.
    pub user: Option<String>,
    /// The connection.
    pub connection: String,
    /// Stands for the credentials that did not do: any text that is another one for others, and gives nothing away.
    pub credentials: String,
}

/// One page of accounts, as kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Position in the listing, from 1.
    pub number: u32,
    /// Ids of the connection's accounts on this page.
    pub ids: Vec<String>,
    /// Ids of other connections' accounts on this page.
    pub foreign: Vec<String>,
    /// Items that stood on no page that came before this one.
    pub fresh: u32,
    /// JSON of those that no other kept page holds, joined by commas, without brackets.
    pub accounts: Bytes,
    /// How many items the server sent on this page, before duplicates and foreign accounts were removed.
    pub received: u32,
}

/// A reading to work on: found or new.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its number.
    pub id: ReadingId,
    /// When it began.
    pub started: Timestamp,
    /// What it holds, once it is finished.
    pub found: Option<Found>,
    /// Pages kept so far, without their accounts' JSON, by number.
    pub pages: Vec<PageFacts>,
}

/// What a reading knows of a kept page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// Position in the listing, from 1.
    pub number: u32,
    /// Ids of its accounts.
    pub ids: Vec<String>,
    /// Ids of other connections' accounts.
    pub foreign: Vec<String>,
    /// Items that stood on no page that came before.
    pub fresh: u32,
    /// Items that the server sent.
    pub received: u32,
    /// Bytes of its accounts' JSON.
    pub bytes: u64,
}

/// How many stages are in a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// [`State::Waiting`]
    pub waiting: u64,
    /// [`State::Leased`]
    pub leased: u64,
    /// [`State::Parked`]
    pub parked: u64,
}

/// Figures for metrics and readiness.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Unfinished and parked work by stage; sinks by name.
    pub stages: Vec<(StageName, StageCounts)>,
    /// When the oldest unfinished entry was accepted.
    pub oldest_unfinished: Option<Timestamp>,
    /// Bytes of the store on disk, log included.
    pub size_bytes: u64,
    /// Bytes of the write-ahead log.
    pub log_bytes: u64,
}

/// Which stage, as people know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StageName {
    /// `completion`
    Completion,
    /// The sink's configured name.
    Sink(String),
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completion => f.write_str("completion"),
            Self::Sink(name) => f.write_str(name),
        }
    }
}

/// Which entries a command means. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Entries in this state.
    pub state: Option<State>,
    /// Entries that have a stage for this sink; with `state`, that stage is in that state.
    pub sink: Option<String>,
    /// Of this connection.
    pub connection: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// With this event id or delivery id.
    pub id: Option<String>,
    /// Parked until these credentials are other ones ([`Outcome::ParkUntil`]).
    pub credentials: Option<String>,
    /// With this number.
    pub seq: Option<Seq>,
    /// Numbered below this one (paging, newest first).
    pub before: Option<Seq>,
    /// Numbered above this one (batches, oldest first).
    pub after: Option<Seq>,
}

/// What one batch of a change by hand did. Changes are made in batches, so that a command never holds up the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Entries changed.
    pub changed: u64,
    /// The last entry looked at: go on behind it ([`Filter::after`]); `None` when no more match.
    pub last: Option<Seq>,
}

/// One entry as commands show it.
#[derive(Clone, Debug, Serialize)]
pub struct EntryView {
    /// Its number.
    pub seq: Seq,
    /// The event's id.
    pub id: String,
    /// The id under which it is delivered.
    pub delivery_id: String,
    /// Its stages taken together.
    pub state: State,
    /// `resource.id`
    pub connection_id: String,
    /// `resource.user_id`
    pub user_id: Option<String>,
    /// `channel_definition_id`
    pub channel_definition_id: Option<String>,
    /// As sent.
    pub event_type: String,
    /// As sent.
    pub resource_type: String,
    /// RFC 3339.
    pub accepted: String,
    /// The announced number of accounts.
    pub account_count: Option<u64>,
    /// Accounts that the event itself lists.
    pub accounts_listed: u64,
    /// Accounts that were fetched, where they had to be.
    pub accounts_fetched: Option<u64>,
    /// Whether another entry came first under this id.
    pub conflict: bool,
    /// What could not be typed, if anything.
    pub drift: Option<String>,
    /// Bytes of the body.
    pub bytes: u64,
    /// Who sent it.
    pub sender: Option<serde_json::Value>,
    /// The parts of its work.
    pub stages: Vec<StageView>,
}

/// One stage as commands show it.
#[derive(Clone, Debug, Serialize)]
pub struct StageView {
    /// `completion` or the sink's name.
    pub stage: String,
    /// Its state.
    pub state: State,
    /// How often it was leased.
    pub attempts: u32,
    /// RFC 3339: next attempt, or end of the lease.
    pub due: Option<String>,
    /// RFC 3339: last change.
    pub changed: String,
    /// Why it waits or is parked.
    pub reason: Option<String>,
}

/// A request that was refused, to be kept for inspection.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When it was answered.
    pub at: Timestamp,
    /// Who sent it, as one JSON object without secrets.
    pub sender: String,
    /// The `code` of the answer.
    pub reason: &'static str,
    /// The status of the answer; 0: the connection was ended without one.
    pub status: u16,
    /// Bytes of the body that came or were announced, if known.
    pub size: Option<u64>,
    /// How the body began; only of senders that are known.
    pub start: Option<Bytes>,
}

/// A refused request as commands show it.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedView {
    /// Its number.
    pub number: i64,
    /// RFC 3339.
    pub refused: String,
    /// The `code` of the answer.
    pub reason: String,
    /// The status of the answer; 0: the connection was ended without one.
    pub status: u16,
    /// Bytes of the body that came or were announced, if known.
    pub bytes: Option<u64>,
    /// Who sent it.
    pub sender: Option<serde_json::Value>,
    /// How the body began, where it was kept; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// Why the inbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store has no room; nothing was stored.
    #[error("the inbox's disk is full")]
    Full(#[source] Option<Source>),
    /// As many unfinished entries as `inbox.max_waiting` allows.
    #[error("the inbox holds as many unfinished entries as inbox.max_waiting allows")]
    Backlog,
    /// The store failed; nothing was stored.
    #[error("the inbox's store failed")]
    Store(#[source] Source),
    /// The inbox is closed or its writer ended.
    #[error("the inbox is closed")]
    Closed,
    /// The lease has expired and the work was given to another, or was settled.
    #[error("the lease of entry {0} is no longer held")]
    LeaseLost(Seq),
    /// The store cannot be opened; the text says what to do.
    #[error("cannot open the inbox {path}: {problem}")]
    Open {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        problem: String,
        /// The store's own words.
        #[source]
        source: Option<Source>,
    },
}

/// An error of the store's own library.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What a stage's worker got: leases, and when to look again.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Work to do.
    pub leases: Vec<Lease>,
    /// When the next stage falls due, if any waits for a time.
    pub next_due: Option<Timestamp>,
}

/// A durable inbox. Two back ends are meant: [`Sqlite`] here, PostgreSQL for several receivers.
///
/// Every method is cancel safe in this sense: when its future is dropped, the change either happens whole or not at all.
#[async_trait]
pub trait Inbox: Send + Sync + fmt::Debug {
    /// Stores an event and syncs it.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Backlog`], [`Error::Store`], [`Error::Closed`]: nothing was promised; answer 503.
    async fn accept(&self, entry: NewEntry) -> Result<Accepted, Error>;

    /// Leases up to `limit` due stages for `lease_for`, oldest due first.
    async fn claim(&self, stage: Stage, limit: usize, lease_for: Duration) -> Result<Claimed, Error>;

    /// Resolves when work may have come up for a stage since it last resolved; a wake-up that nobody waits for is kept.
    async fn wake(&self, stage: Stage);

    /// Prolongs a lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: stop working, do not settle.
    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error>;

    /// Ends a lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another has it; its outcome counts, not this one.
    async fn settle(&self, lease: &Lease, outcome: Outcome) -> Result<(), Error>;

    /// Finds the youngest reading for this entry's connection that began after the entry was accepted, if it is finished or
    /// got its last page at most `resume_within` ago; else begins one.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn reading(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error>;

    /// Begins another reading, where the one that was found does not do.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn begin_reading(&self, lease: &Lease) -> Result<Reading, Error>;

    /// Keeps a page of the reading that a lease was given; keeping it again replaces it.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now; nothing was kept. [`Error::Full`]: the room that is left is for
    /// events.
    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error>;

    /// Replaces the accounts' JSON of a kept page; what else is known of the page stays.
    ///
    /// # Errors
    /// Those of [`keep_page`](Inbox::keep_page).
    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error>;

    /// Keeps the connection's own JSON beside the pages of a reading; keeping it again replaces it.
    ///
    /// # Errors
    /// Those of [`keep_page`](Inbox::keep_page).
    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error>;

    /// The connection's own JSON, where it was kept.
    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error>;

    /// Numbers and sizes of a reading's pages, by number.
    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error>;

    /// The accounts' JSON of one page.
    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error>;

    /// Figures for metrics and readiness.
    async fn stats(&self) -> Result<Stats, Error>;

    /// The stage of a configured sink.
    fn sink(&self, name: &str) -> Option<Stage>;

    /// Whether an event would be accepted now: the store answers, has room, and is under `max_waiting`.
    ///
    /// # Errors
    /// Those of [`accept`](Inbox::accept).
    fn ready(&self) -> Result<(), Error>;

    /// Entries that match, newest first, at most `limit`.
    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error>;

    /// The event of an entry exactly as it came; `None` when there is no such entry.
    async fn body(&self, seq: Seq) -> Result<Option<Bytes>, Error>;

    /// Puts matching entries' work (of one sink, where the filter names one) back in line, parked or done: a batch of at most
    /// `limit` entries, oldest first.
    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error>;

    /// What parked work waits for, each once; of one user, where one is named. To replay it, give [`replay`](Inbox::replay)
    /// the user, the connection and the credentials.
    async fn awaiting(&self, user: Option<&str>) -> Result<Vec<Awaiting>, Error>;

    /// Parks a batch of matching unfinished entries.
    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error>;

    /// Deletes a batch of matching entries that are done or parked.
    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error>;

    /// Deletes up to `limit` done entries that were accepted and settled before `cutoff`; returns how many. Deletes refused
    /// requests from before it too.
    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<u64, Error>;

    /// Keeps refused requests for inspection: the newest, as many as `inbox.refused` allows.
    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error>;

    /// Refused requests, newest first, at most `limit`.
    async fn refused(&self, limit: usize) -> Result<Vec<RefusedView>, Error>;

    /// Waits for open writes and closes the store.
    async fn close(&self);
}
