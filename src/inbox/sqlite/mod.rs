//! The inbox on one SQLite file: the default back end.
//!
//! One thread writes (`writer`), in batches that share a sync; a few connections read for commands and pages. Bodies are
//! written once and never touched again; the rows that change (`stage`) are small. SQLite through `rusqlite` was chosen
//! over faster bare logs because it brings recovery, indexes and queries that this inbox would otherwise have to invent;
//! see `docs/decisions/0001-sqlite-with-group-commit.md`.
//!
//! One process owns the file (a lock file says so); commands may read it and write short transactions beside it.

mod accept;
mod lease;
mod open;
mod reading;
mod refused;
mod schema;
mod tally;
mod view;
mod writer;

pub use open::Access;

use super::{
    Accepted, Awaiting, Batch, Claimed, EntryView, Error, Filter, Inbox, Lease, NewEntry, Outcome, Page, Reading,
    ReadingId, Refused, RefusedView, SinkId, Stage, StageCounts, StageName, Stats,
};
use crate::config;
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use lease::Held;
use open::Opener;
use rusqlite::{Connection, OptionalExtension};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tally::{COMPLETION, Shared};
use writer::Writer;

/// How long a look at the free space of the disk is believed.
const SPACE_BELIEVED: Duration = Duration::from_millis(500);

/// The inbox on one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// `None` once closed.
    writer: Mutex<Option<Arc<Writer>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    /// Configured sinks, in the order of the configuration.
    sinks: Arc<[SinkRow]>,
    max_waiting: u64,
    min_free_disk: u64,
    /// Refused requests that are kept.
    refused: u64,
    /// Bytes left on the disk, and when that was looked at.
    space: Mutex<Option<(Instant, u64)>>,
}

/// A sink's row.
#[derive(Clone, Debug)]
struct SinkRow {
    id: i64,
    name: String,
}

/// Reading connections, opened as needed and kept.
struct Readers {
    opener: Opener,
    idle: Mutex<Vec<Connection>>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers")
    }
}

impl Readers {
    /// Runs a query away from the runtime's own threads.
    async fn read<T, F>(self: &Arc<Self>, query: F) -> Result<T, Error>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers.opener.reader()?,
            };
            let result = query(&connection).map_err(|error| Error::Store(Box::new(error)))?;
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(result)
        });
        task.await.map_err(|error| Error::Store(Box::new(error)))?
    }
}

impl Sqlite {
    /// Opens (as owner: makes, locks, migrates) the store and registers the sinks by name.
    ///
    /// # Errors
    /// [`Error::Open`], with what to do.
    pub fn open(path: &Path, config: &config::Inbox, sinks: &[String], access: Access) -> Result<Self, Error> {
        let opener = Opener::new(path, access)?;
        let store = opener.open()?;
        let readers = Opener::new(path, Access::Guest)?;
        let failed = |error: rusqlite::Error| Error::Store(Box::new(error));
        let shared = Arc::new(Shared::default());
        let sinks = register(&store.connection, sinks, access).map_err(failed)?;
        if access == Access::Owner {
            let found = writer::at_once(&store.connection, lease::end_all).map_err(failed)?;
            if found > 0 {
                tracing::warn!(
                    entries = found,
                    "work was under way when the service last ended without warning; it is done again"
                );
            }
        }
        shared.set_unfinished(count_unfinished(&store.connection).map_err(failed)?);
        let (writer, thread) =
            Writer::start(store, opener, Arc::clone(&shared)).map_err(|error| Error::Store(Box::new(error)))?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(Arc::new(writer))),
            thread: Mutex::new(Some(thread)),
            shared,
            readers: Arc::new(Readers { opener: readers, idle: Mutex::default() }),
            sinks: sinks.into(),
            max_waiting: config.max_waiting,
            min_free_disk: config.min_free_disk,
            refused: config.refused,
            space: Mutex::default(),
        })
    }

    fn writer(&self) -> Result<Arc<Writer>, Error> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    /// Writes under a lease, or not at all when it is no longer held.
    async fn write_held<T, F>(&self, lease: &Lease, mut write: F) -> Result<T, Error>
    where
        F: FnMut(&mut writer::Tx<'_>, &Held) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let held = Held { seq: lease.seq.0, kind: tally::kind(lease.stage), token: lease.token };
        let written = self
            .writer()?
            .write(move |tx| if lease::is_held(tx, &held)? { write(tx, &held).map(Some) } else { Ok(None) })
            .await?;
        written.ok_or(Error::LeaseLost(lease.seq))
    }

    /// Bytes left on the disk.
    fn free_space(&self) -> u64 {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        match *space {
            Some((at, free)) if at.elapsed() < SPACE_BELIEVED => free,
            _ => {
                let folder = self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
                // A file system that cannot say is given the benefit of the doubt: a full one shows at the commit.
                let free =
                    rustix::fs::statvfs(folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                *space = Some((Instant::now(), free));
                free
            }
        }
    }

    /// Whether the disk has room for events.
    fn has_space(&self) -> bool {
        // A free space of 0 is noted when a commit found the disk full, whatever it has left by its own account.
        let free = self.free_space();
        free > 0 && free >= self.min_free_disk
    }
}

#[async_trait]
impl Inbox for Sqlite {
    async fn accept(&self, entry: NewEntry) -> Result<Accepted, Error> {
        self.ready()?;
        let sinks = Arc::clone(&self.sinks);
        let prepared = accept::Prepared::new(entry);
        let accepted = self.writer()?.write(move |tx| accept::accept(tx, &prepared, &sinks)).await;
        if matches!(accepted, Err(Error::Full(_))) {
            // A quota or a lost reservation: the file system says that there is room, the commit says that there is none.
            *self.space.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), 0));
        }
        accepted
    }

    async fn claim(&self, stage: Stage, limit: usize, lease_for: Duration) -> Result<Claimed, Error> {
        let shared = Arc::clone(&self.shared);
        self.writer()?.write(move |tx| lease::claim(tx, stage, limit, lease_for, &shared)).await
    }

    async fn wake(&self, stage: Stage) {
        self.shared.waker(tally::kind(stage)).notified().await;
    }

    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error> {
        self.write_held(lease, move |tx, held| lease::renew(tx, held, lease_for)).await
    }

    async fn settle(&self, lease: &Lease, outcome: Outcome) -> Result<(), Error> {
        self.write_held(lease, move |tx, held| lease::settle(tx, held, &outcome)).await
    }

    async fn reading(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error> {
        let entry = Arc::clone(&lease.entry);
        self.write_held(lease, move |tx, _| reading::find_or_begin(tx, &entry, resume_within)).await
    }

    async fn begin_reading(&self, lease: &Lease) -> Result<Reading, Error> {
        let entry = Arc::clone(&lease.entry);
        self.write_held(lease, move |tx, _| reading::begin(tx, &entry)).await
    }

    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error> {
        // Events come first: what is fetched can be fetched again.
        if self.free_space() < self.min_free_disk.saturating_add(self.min_free_disk / 4) {
            return Err(Error::Full(None));
        }
        self.write_held(lease, move |tx, _| reading::keep_page(tx, reading, &page)).await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        self.write_held(lease, move |tx, _| reading::replace_accounts(tx, reading, number, &accounts)).await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        self.write_held(lease, move |tx, _| reading::keep_connection(tx, reading, &connection)).await
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        self.readers.read(move |connection| reading::connection(connection, reading)).await
    }

    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        self.readers.read(move |connection| reading::pages(connection, reading)).await
    }

    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error> {
        self.readers.read(move |connection| reading::page(connection, reading, number)).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let sinks = Arc::clone(&self.sinks);
        let shared = Arc::clone(&self.shared);
        let path = self.path.clone();
        self.readers
            .read(move |connection| {
                let unfinished = count_unfinished(connection)?;
                let mut stages = Vec::with_capacity(sinks.len() + 1);
                let names = std::iter::once((COMPLETION, StageName::Completion))
                    .chain(sinks.iter().map(|sink| (sink.id, StageName::Sink(sink.name.clone()))));
                for (kind, name) in names {
                    let leased = count(connection, view::COUNT_LEASED, kind)?;
                    let all = unfinished.get(&kind).copied().unwrap_or(0);
                    stages.push((
                        name,
                        StageCounts {
                            waiting: u64::try_from(all).unwrap_or(0).saturating_sub(leased),
                            leased,
                            parked: count(connection, view::COUNT_PARKED, kind)?,
                        },
                    ));
                }
                let oldest = view::oldest_unfinished(connection)?;
                // Also mends the running figures, which changes by other processes (a replay command) pass by.
                shared.set_unfinished(unfinished);
                let size = |suffix: &str| {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    fs::metadata(name).map_or(0, |meta| meta.len())
                };
                let log_bytes = size("-wal");
                Ok(Stats { stages, oldest_unfinished: oldest, size_bytes: size("") + log_bytes, log_bytes })
            })
            .await
    }

    fn sink(&self, name: &str) -> Option<Stage> {
        self.sinks.iter().find(|row| row.name == name).map(|row| Stage::Sink(SinkId(row.id)))
    }

    fn ready(&self) -> Result<(), Error> {
        if self.shared.is_suspect() {
            return Err(Error::Store("the store failed and is being checked".into()));
        }
        if self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_none_or(thread::JoinHandle::is_finished)
        {
            return Err(Error::Closed);
        }
        if !self.has_space() {
            return Err(Error::Full(None));
        }
        if self.shared.backlog() >= self.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<EntryView>, Error> {
        let filter = filter.clone();
        self.readers.read(move |connection| view::list(connection, &filter, limit)).await
    }

    async fn body(&self, seq: super::Seq) -> Result<Option<Bytes>, Error> {
        self.readers
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT body FROM event WHERE seq = ?1")?
                    .query_row([seq.0], |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
                    .optional()
            })
            .await
    }

    async fn replay(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let filter = filter.clone();
        let sinks = Arc::clone(&self.sinks);
        self.writer()?.write(move |tx| view::replay(tx, &filter, limit, &sinks)).await
    }

    async fn awaiting(&self, user: Option<&str>) -> Result<Vec<Awaiting>, Error> {
        let user = user.map(str::to_owned);
        self.readers.read(move |connection| view::awaiting(connection, user.as_deref())).await
    }

    async fn park(&self, filter: &Filter, limit: usize, reason: &str) -> Result<Batch, Error> {
        let (filter, reason) = (filter.clone(), reason.to_owned());
        self.writer()?.write(move |tx| view::park(tx, &filter, limit, &reason)).await
    }

    async fn purge(&self, filter: &Filter, limit: usize) -> Result<Batch, Error> {
        let filter = filter.clone();
        self.writer()?.write(move |tx| view::purge(tx, &filter, limit)).await
    }

    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<u64, Error> {
        let expire = move |tx: &mut writer::Tx<'_>| {
            refused::expire(tx, cutoff)?;
            view::expire(tx, cutoff, limit)
        };
        self.writer()?.write(expire).await
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        if self.refused == 0 {
            return Ok(());
        }
        // Not through `ready`: a backlog is no reason to look away.
        if !self.has_space() {
            return Err(Error::Full(None));
        }
        let keep = self.refused;
        self.writer()?.write(move |tx| refused::keep(tx, &refused, keep)).await
    }

    async fn refused(&self, limit: usize) -> Result<Vec<RefusedView>, Error> {
        self.readers.read(move |connection| refused::list(connection, limit)).await
    }

    async fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(writer);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread ends when the last queued operation is answered.
            if let Err(error) = tokio::task::spawn_blocking(move || thread.join().is_ok()).await {
                tracing::error!(error = %error, "the inbox's writer could not be waited for");
            }
        }
        self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Gives every configured name its number.
fn register(connection: &Connection, names: &[String], access: Access) -> rusqlite::Result<Vec<SinkRow>> {
    if access == Access::Owner {
        for name in names {
            connection.execute("INSERT INTO sink (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
        }
    }
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let id = connection.query_row("SELECT id FROM sink WHERE name = ?1", [name], |row| row.get(0)).optional()?;
        rows.extend(id.map(|id| SinkRow { id, name: name.clone() }));
    }
    if access == Access::Owner {
        let mut orphans = connection.prepare(
            "SELECT name, (SELECT count(*) FROM stage WHERE kind = sink.id AND state IN (0, 1, 2)) AS waiting FROM sink",
        )?;
        let found = orphans.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        for row in found {
            let (name, waiting) = row?;
            if waiting > 0 && !names.contains(&name) {
                tracing::warn!(
                    sink = name,
                    entries = waiting,
                    "a sink with waiting entries is no longer configured: configure it again, or park or purge its entries with `inbox park --sink`"
                );
            }
        }
    }
    Ok(rows)
}

/// Unfinished stages by kind.
fn count_unfinished(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, i64>> {
    connection
        .prepare_cached(
            "SELECT kind, count(*) FROM stage INDEXED BY stage_line WHERE state IN (0, 1, 2) GROUP BY kind",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn count(connection: &Connection, sql: &str, kind: i64) -> rusqlite::Result<u64> {
    let count: i64 = connection.prepare_cached(sql)?.query_row([kind], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
