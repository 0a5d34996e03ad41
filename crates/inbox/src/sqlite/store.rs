//! The open file: its readers, its writer, and what every interface of the inbox needs of it.

use super::{
    attach::{Attached, attach, forget_erased},
    codes::{Kind, Sinks},
    counts,
    open::{Access, Opener, is_full},
    reserve::Reserve,
    schema,
    shared::Shared,
    stages::{self, StageRow},
    tx::{self, Tx},
    writer::Writer,
};
use crate::{
    Error, Keys, Lease, Position, Settings, SinkName,
    seal::{Round, Seal},
    space::Space,
};
use base::sync::lock;
use rusqlite::{Connection, OptionalExtension};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicI64},
    thread,
};

/// The inbox on one SQLite file.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(super) path: PathBuf,
    /// `None` once closed.
    writer: Mutex<Option<Arc<Writer>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    readers: Arc<Readers>,
    pub(super) shared: Arc<Shared>,
    pub(super) sinks: Arc<Sinks>,
    pub(crate) space: Space,
    pub(super) reserve: Reserve,
    pub(super) keys: Keys,
    pub(crate) seal: Arc<Seal>,
    /// How far [`Sqlite::reseal`] is.
    pub(super) round: Mutex<Round>,
    pub(super) max_waiting: u64,
    /// Refused requests that are kept.
    pub(super) refused: u64,
    /// See [`Sqlite::reached_when_opened`].
    reached: Position,
    /// The last entry that retention has looked at in its present round.
    pub(super) looked_at: Arc<AtomicI64>,
    /// Held by whoever overwrites what deleted rows left behind.
    pub(super) sweeping: tokio::sync::Mutex<()>,
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
            let idle = lock(&readers.idle).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers.opener.reader()?,
            };
            let result = query(&connection).map_err(|error| Error::Store(Box::new(error)))?;
            lock(&readers.idle).push(connection);
            Ok(result)
        });
        task.await.map_err(|error| Error::Store(Box::new(error)))?
    }
}

impl Sqlite {
    /// Opens (as owner: makes, locks, migrates) the store and registers the sinks by name. Where the disk is full, the reserve is
    /// given up for that: a service that runs can be purged, and takes events as soon as there is room.
    pub(crate) fn open(path: &Path, settings: &Settings, sinks: &[SinkName], access: Access) -> Result<Self, Error> {
        match Self::try_open(path, settings, sinks, access) {
            Err(error) if access == Access::Owner && is_full(&error) && Reserve::beside(path).spend() => {
                Self::try_open(path, settings, sinks, access)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path, settings: &Settings, sinks: &[SinkName], access: Access) -> Result<Self, Error> {
        let opener = Opener::new(path, access)?;
        let store = opener.open()?;
        let readers = Opener::new(path, Access::Guest)?;
        let failed = |error: rusqlite::Error| opener.explain(error);
        let shared = Arc::new(Shared::default());
        // Before anything is written: a damaged file is left as it is.
        let reached = tx::reached(&store.connection).map_err(failed)?;
        let Attached { seal, dedup } = attach(&store.connection, settings, access)?;
        forget_erased(&store.connection, &seal)?;
        let keys = schema::keys(&store.connection, dedup).map_err(failed)?;
        let sinks = register(&store.connection, sinks, access).map_err(failed)?;
        if access == Access::Owner {
            let found = tx::run_at_once(&store.connection, stages::end_all).map_err(failed)?;
            if found > 0 {
                tracing::warn!(
                    code = "work_was_under_way",
                    entries = found,
                    "work was under way when the service last ended without warning; it is done again"
                );
            }
        }
        shared.set_counted(counts::count_all(&store.connection).map_err(failed)?);
        let (writer, thread) =
            Writer::start(store, opener, Arc::clone(&shared)).map_err(|error| Error::Store(Box::new(error)))?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(Arc::new(writer))),
            thread: Mutex::new(Some(thread)),
            readers: Arc::new(Readers { opener: readers, idle: Mutex::default() }),
            shared,
            sinks: Arc::new(sinks),
            space: Space::new(base::folder::of(path).to_owned(), settings.min_free_disk),
            reserve: Reserve::beside(path),
            keys,
            seal: Arc::new(seal),
            round: Mutex::default(),
            max_waiting: settings.max_waiting,
            refused: settings.refused,
            reached,
            looked_at: Arc::default(),
            sweeping: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How far the record of accepted events was in the store when it was opened.
    pub(crate) const fn reached_when_opened(&self) -> Position {
        self.reached
    }

    /// Unfinished entries: those of the stage that has most.
    pub(crate) fn backlog(&self) -> u64 {
        self.shared.backlog()
    }

    pub(crate) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Runs a query away from the runtime's own threads.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, Error>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.read(query).await
    }

    /// Runs an operation in the next transaction of the writer; returns after its commit was synced.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let writer = lock(&self.writer).clone().ok_or(Error::Closed)?;
        writer.write(operation).await
    }

    /// As [`write`](Self::write), for what makes room: where the disk is full, the reserve is given up for it.
    pub(super) async fn write_to_free<T, F>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Clone + Send + 'static,
        T: Send + 'static,
    {
        match self.write(operation.clone()).await {
            Err(Error::Full(_)) if self.reserve.spend() => self.write(operation).await,
            written => written,
        }
    }

    /// Writes under a lease, or not at all when it is no longer held.
    pub(super) async fn write_held<T, F>(&self, lease: &Lease, mut write: F) -> Result<T, Error>
    where
        F: FnMut(&mut Tx<'_>, &mut StageRow) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (seq, token) = (lease.seq, lease.token);
        let Some(kind) = self.sinks.kind(&lease.stage) else { return Err(Error::LeaseLost(seq)) };
        let written = self
            .write(move |tx| match stages::load_held(tx.connection, seq.0, kind, token)? {
                Some(mut row) => write(tx, &mut row).map(Some),
                None => Ok(None),
            })
            .await?;
        written.ok_or(Error::LeaseLost(seq))
    }

    /// Whether the store can be written.
    pub(super) fn is_sound(&self) -> Result<(), Error> {
        if self.shared.is_suspect() {
            return Err(Error::Store("the store failed and is being checked".into()));
        }
        if self.shared.writer.hangs() {
            return Err(Error::Store("the inbox's file does not answer, or another program holds it locked".into()));
        }
        let thread = lock(&self.thread);
        if thread.as_ref().is_none_or(thread::JoinHandle::is_finished) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Folds of the log into the file what nobody is in the way of.
    pub(super) async fn checkpoint(&self) -> Result<(), Error> {
        let readers = Arc::clone(&self.readers);
        let folded = tokio::task::spawn_blocking(move || readers.opener.checkpoint()).await;
        folded.map_err(|error| Error::Store(Box::new(error)))?
    }

    /// Folds the log into the file and empties it.
    pub(super) async fn fold_log(&self) -> Result<(), Error> {
        let readers = Arc::clone(&self.readers);
        let folded = tokio::task::spawn_blocking(move || readers.opener.fold_log()).await;
        folded.map_err(|error| Error::Store(Box::new(error)))?
    }

    /// Waits for open writes and closes the file.
    pub(super) async fn end(&self) {
        // Readers first: who closes last folds the log into the file, and that must be the writer.
        lock(&self.readers.idle).clear();
        let writer = lock(&self.writer).take();
        drop(writer);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // The thread ends when the last queued operation is answered.
            if let Err(error) = tokio::task::spawn_blocking(move || thread.join().is_ok()).await {
                tracing::error!(code = "store_writer_lost", error = %error, "the inbox's writer could not be waited for");
            }
        }
        lock(&self.readers.idle).clear();
        self.shared.happenings.end();
    }
}

/// Gives every configured name its number.
fn register(connection: &Connection, names: &[SinkName], access: Access) -> rusqlite::Result<Sinks> {
    if access == Access::Owner {
        for name in names {
            connection.execute("INSERT INTO sink (name) VALUES (?1) ON CONFLICT DO NOTHING", [name.as_str()])?;
        }
    }
    let mut sinks = Vec::with_capacity(names.len());
    for name in names {
        let kind: Option<Kind> = connection
            .query_row("SELECT id FROM sink WHERE name = ?1", [name.as_str()], |row| row.get(0))
            .optional()?;
        sinks.extend(kind.map(|kind| (kind, name.clone())));
    }
    if access == Access::Owner {
        for (name, waiting) in left_behind(connection, names)? {
            tracing::warn!(
                code = "sink_not_configured",
                sink = name,
                entries = waiting,
                "a sink with waiting entries is no longer configured: configure it again, give its work to another sink with `inbox move`, or park and purge it with `inbox park --sink`"
            );
        }
    }
    Ok(Sinks(sinks))
}

/// Sinks that are not configured any more, with how many deliveries wait for each.
pub(super) fn left_behind(connection: &Connection, configured: &[SinkName]) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut sinks = connection.prepare("SELECT id, name FROM sink")?;
    let mut waiting = connection.prepare("SELECT count(*) FROM stage WHERE kind = ?1 AND ended = 0")?;
    let mut found = Vec::new();
    for sink in sinks.query_map([], |row| Ok((row.get::<_, Kind>(0)?, row.get::<_, String>(1)?)))? {
        let (kind, name) = sink?;
        if configured.iter().all(|sink| sink.as_str() != name) {
            found.push((name, waiting.query_row([kind], |row| row.get(0))?));
        }
    }
    found.retain(|(_, waiting)| *waiting > 0);
    Ok(found)
}

/// As [`left_behind`], of a file that is not open; nothing where the file cannot say.
pub(crate) fn look_for_left_behind(path: &Path, configured: &[SinkName]) -> Vec<(String, i64)> {
    let connection = Opener::new(path, Access::Guest).and_then(|opener| opener.reader());
    connection.ok().and_then(|connection| left_behind(&connection, configured).ok()).unwrap_or_default()
}
