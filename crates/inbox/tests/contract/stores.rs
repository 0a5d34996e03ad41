//! The factory: one [`Store`] for each back end, with what the cases need beyond the inbox's own interfaces: another
//! receiver on the same store, a crash, and time that has passed.

use crate::{
    events::{event, new_entry},
    server::Schema,
};
use base::clock::{self, Timestamp};
use inbox::{
    Access, EntryView, Error, Filter, Folded, Inbox, Intake, Lease, NewEntry, Outcome, Receipt, Seq, Settings,
    SinkName, Stage, State, open, settings,
};
use rstest_reuse::template;
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

/// How long leases of the cases last: longer than any case takes.
pub(crate) const LEASE: Duration = Duration::from_mins(1);

/// A back end of the inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    /// A SQLite file; each accept is a commit of its own.
    Sqlite,
    /// A SQLite file behind a journal.
    Journaled,
    /// As that, and all bank data is sealed.
    Sealed,
    /// A schema of its own on a PostgreSQL server, which every receiver opens as its owner.
    Postgres,
    /// As that, and all bank data is sealed.
    PostgresSealed,
}

impl Backend {
    const fn is_on_a_server(self) -> bool {
        matches!(self, Self::Postgres | Self::PostgresSealed)
    }

    const fn is_sealed(self) -> bool {
        matches!(self, Self::Sealed | Self::PostgresSealed)
    }
}

/// Accepts, and waits for the fold.
pub(crate) trait AcceptFolded {
    /// As [`Intake::accept`]; the receipt says what became of the event.
    async fn accept_folded(&self, entry: NewEntry) -> Result<Receipt, Error>;
}

impl AcceptFolded for Arc<dyn Intake> {
    async fn accept_folded(&self, entry: NewEntry) -> Result<Receipt, Error> {
        let receipt = self.accept(entry).await?;
        Ok(Receipt { folded: self.fate(&receipt).await?, ..receipt })
    }
}

/// Every case runs on each of these.
#[template]
#[rstest::rstest]
#[case::sqlite(Backend::Sqlite)]
#[case::journaled(Backend::Journaled)]
#[case::sealed(Backend::Sealed)]
#[case::postgres(Backend::Postgres)]
#[case::postgres_sealed(Backend::PostgresSealed)]
pub(crate) fn every_back_end(#[case] backend: Backend) {}

/// Cases about the disk of this machine run on these.
#[template]
#[rstest::rstest]
#[case::sqlite(Backend::Sqlite)]
#[case::journaled(Backend::Journaled)]
#[case::sealed(Backend::Sealed)]
pub(crate) fn every_back_end_on_a_file(#[case] backend: Backend) {}

/// Cases about equal receivers run on these.
#[template]
#[rstest::rstest]
#[case::postgres(Backend::Postgres)]
#[case::postgres_sealed(Backend::PostgresSealed)]
pub(crate) fn every_back_end_on_a_server(#[case] backend: Backend) {}

/// Cases in which several receivers accept run on these.
#[template]
#[rstest::rstest]
#[case::sqlite(Backend::Sqlite)]
#[case::postgres(Backend::Postgres)]
#[case::postgres_sealed(Backend::PostgresSealed)]
pub(crate) fn every_shared_back_end(#[case] backend: Backend) {}

/// Settings without limits that matter, for a store in this folder.
fn settings(backend: Backend, folder: &TempDir) -> Settings {
    let journal = match backend {
        Backend::Sqlite | Backend::Postgres | Backend::PostgresSealed => Some(settings::Journal::Off),
        Backend::Journaled | Backend::Sealed => None,
    };
    let key = if backend.is_sealed() { vec![base::secret::Secret::new("5e".repeat(32))] } else { Vec::new() };
    Settings {
        store: settings::Store::Sqlite(folder.path().join("inbox.db")),
        journal,
        key,
        journal_max: 64 << 20,
        min_free_disk: 0,
        ..::settings::defaults().unwrap()
    }
}

/// One store, and the first receiver's handle on it.
pub(crate) struct Store {
    backend: Backend,
    pub(crate) folder: TempDir,
    /// Of the back end on a server.
    schema: Option<Schema>,
    sinks: Vec<SinkName>,
    inbox: Inbox,
}

impl Store {
    /// A new store, for these sinks.
    pub(crate) async fn new(backend: Backend, sinks: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let sinks: Vec<SinkName> = sinks.iter().map(|name| SinkName::new(*name)).collect();
        let settings = settings(backend, &folder);
        let schema = if backend.is_on_a_server() { Some(Schema::new(&settings).await) } else { None };
        let inbox = match &schema {
            Some(schema) => schema.open(&settings, &sinks, clock::now).await,
            None => open(&settings, &sinks, Access::Owner).unwrap(),
        };
        Self { backend, folder, schema, sinks, inbox }
    }

    /// The first receiver's handle.
    pub(crate) fn get(&self) -> &Inbox {
        &self.inbox
    }

    /// Another receiver's handle on the same store.
    pub(crate) async fn another(&self) -> Inbox {
        self.another_with(|_| (), clock::now).await
    }

    /// As [`another`](Self::another), with other settings, and with another clock where receivers may have several.
    pub(crate) async fn another_with(&self, change: impl FnOnce(&mut Settings), clock: fn() -> Timestamp) -> Inbox {
        let mut settings = settings(self.backend, &self.folder);
        change(&mut settings);
        match &self.schema {
            Some(schema) => schema.open(&settings, &self.sinks, clock).await,
            None => open(&settings, &self.sinks, Access::Guest).unwrap(),
        }
    }

    /// Whether only the first receiver accepts.
    pub(crate) fn has_one_way_in(&self) -> bool {
        matches!(self.backend, Backend::Journaled | Backend::Sealed)
    }

    /// Ends every lease's holder without a word, as a crash does, and opens the store again.
    pub(crate) async fn crash(&mut self) {
        self.open_with(|_| ()).await;
    }

    /// As [`crash`](Self::crash), with other settings.
    pub(crate) async fn open_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.inbox.upkeep.close().await;
        let mut settings = settings(self.backend, &self.folder);
        change(&mut settings);
        self.inbox = match &self.schema {
            Some(schema) => schema.open(&settings, &self.sinks, clock::now).await,
            None => open(&settings, &self.sinks, Access::Owner).unwrap(),
        };
    }

    /// As [`crash`](Self::crash), with another sink configured.
    pub(crate) async fn add_sink(&mut self, name: &str) {
        self.sinks.push(SinkName::new(name));
        self.crash().await;
    }

    /// As [`crash`](Self::crash), with a sink no longer configured.
    pub(crate) async fn remove_sink(&mut self, name: &str) {
        self.sinks.retain(|sink| sink.as_str() != name);
        self.crash().await;
    }

    /// Moves every time that the store has recorded into the past, as if nothing had happened for so long.
    pub(crate) async fn let_pass(&self, time: Duration) {
        self.shift(-i64::try_from(time.as_millis()).unwrap()).await;
    }

    /// Moves every time that the store has recorded into the future, as if the clock had been set back by so much.
    pub(crate) async fn set_clock_back(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap()).await;
    }

    async fn shift(&self, by: i64) {
        let columns = [
            ("entry", "accepted"),
            ("stage", "due"),
            ("stage", "changed"),
            ("stage", "failing_since"),
            ("stage", "doubts_since"),
            ("attempt", "at"),
            ("reading", "started"),
            ("reading", "changed"),
            ("fetched", "snapshot"),
            ("refused", "at"),
            ("delivered", "as_of"),
            ("stage", "resumed"),
            ("sink", "paused"),
            ("receiver", "seen"),
        ];
        let updates = columns.map(|(table, column)| format!("UPDATE {table} SET {column} = {column} + {by};"));
        if let Some(schema) = &self.schema {
            schema.run(&updates.concat()).await;
            return;
        }
        let file = rusqlite::Connection::open(self.folder.path().join("inbox.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        file.execute_batch(&updates.concat()).unwrap();
    }
}

/// Shorthands for what most cases do.
impl Store {
    /// Accepts a whole event.
    pub(crate) async fn accept(&self, id: &str, connection: &str) -> Seq {
        self.accept_json(&event(id, connection, 1, false)).await
    }

    /// Accepts an event whose accounts must be fetched.
    pub(crate) async fn accept_truncated(&self, id: &str, connection: &str) -> Seq {
        self.accept_json(&event(id, connection, 150, true)).await
    }

    pub(crate) async fn accept_json(&self, json: &str) -> Seq {
        stored(self.inbox.intake.accept_folded(new_entry(json)).await.unwrap())
    }

    pub(crate) async fn claim(&self, stage: &Stage) -> Vec<Lease> {
        self.inbox.queue.claim(stage, 100, LEASE).await.unwrap().leases
    }

    /// The one lease that there is for a stage.
    pub(crate) async fn claim_one(&self, stage: &Stage) -> Lease {
        let mut leases = self.claim(stage).await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases.remove(0)
    }

    pub(crate) async fn claim_seqs(&self, stage: &Stage) -> Vec<Seq> {
        self.claim(stage).await.iter().map(|lease| lease.seq).collect()
    }

    pub(crate) async fn settle(&self, lease: &Lease, outcome: Outcome) {
        self.inbox.queue.settle(&[(lease, outcome)]).await.remove(0).unwrap();
    }

    pub(crate) async fn list(&self, filter: &Filter) -> Vec<EntryView> {
        self.inbox.desk.list(filter, 1000).await.unwrap()
    }

    pub(crate) async fn list_seqs(&self, filter: &Filter) -> Vec<Seq> {
        self.list(filter).await.iter().map(|entry| entry.seq).collect()
    }

    pub(crate) async fn view(&self, seq: Seq) -> EntryView {
        self.list(&only(seq)).await.remove(0)
    }

    pub(crate) async fn state(&self, seq: Seq) -> State {
        self.view(seq).await.state
    }

    /// Puts everything that matches back in line; says how many entries that were.
    pub(crate) async fn replay(&self, filter: &Filter) -> u64 {
        self.inbox.desk.replay(filter, 1000).await.unwrap().changed
    }

    pub(crate) async fn park(&self, filter: &Filter) -> u64 {
        self.inbox.desk.park(filter, 1000, "by hand").await.unwrap().changed
    }

    pub(crate) async fn purge(&self, filter: &Filter) -> u64 {
        self.inbox.desk.purge(filter, 1000).await.unwrap().changed
    }
}

/// The number of the entry that an accepted event became.
pub(crate) fn stored(receipt: Receipt) -> Seq {
    match receipt.folded {
        Some(Folded::Stored { seq, .. }) => seq,
        other => panic!("not stored: {other:?}"),
    }
}

/// The one entry.
pub(crate) fn only(seq: Seq) -> Filter {
    Filter { seq: Some(seq), ..Filter::default() }
}

/// One sink's part of the one entry.
pub(crate) fn only_at(seq: Seq, sink: &str) -> Filter {
    Filter { sink: Some(SinkName::new(sink)), ..only(seq) }
}

/// Entries in a state.
pub(crate) fn in_state(state: State) -> Filter {
    Filter { state: Some(state), ..Filter::default() }
}
