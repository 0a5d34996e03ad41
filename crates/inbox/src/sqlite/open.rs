//! Opening the file: permissions, ownership by one process, settings that make a commit durable, damage, versions.

use super::{migrate, reserve::Reserve, schema, tx};
use crate::{Error, Identity, Position, pages};
use base::folder;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The first SQLite without the WAL-reset bug, which could corrupt a database written and checkpointed by two
/// connections at once.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a lock that another holds is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long readers and writers are waited for before the log is emptied.
const FOLD_PATIENCE: Duration = Duration::from_secs(2);
/// Pages of the log at which it is folded into the file, 32 MB: most pages are changed several times before, and are written once.
const CHECKPOINT_AT: u32 = 4_000;
/// Log kept on disk after a checkpoint.
const JOURNAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// Who opens the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The service: takes the lock, migrates, finds lost leases.
    Owner,
    /// A command beside it: reads, and writes short transactions.
    Guest,
}

/// A writing connection.
pub(super) struct Opened {
    pub(super) connection: Connection,
}

impl Opened {
    /// Folds the log into the file and closes. Where another process still reads, the log stays.
    pub(super) fn close(self) {
        if let Err(error) = fold_log(&self.connection) {
            tracing::warn!(code = "store_log_not_folded", error = %error, "the inbox's log could not be folded into its file; the next start does it");
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(code = "store_not_closed", error = %error, "the inbox's store did not close cleanly; it is checked at the next start");
        }
    }
}

/// Knows how to open one store; holds its lock.
pub(super) struct Opener {
    path: PathBuf,
    access: Access,
    /// Released by the system when the process ends, however it ends.
    _lock: Option<File>,
}

impl Opener {
    /// Prepares the folder and takes the lock.
    pub(super) fn new(path: &Path, access: Access) -> Result<Self, Error> {
        let problem = |problem: &str, source: std::io::Error| Error::Open {
            path: path.display().to_string(),
            problem: problem.to_owned(),
            source: Some(Box::new(source)),
        };
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(Error::Open {
                path: path.display().to_string(),
                problem: format!("SQLite {} is too old; 3.51.3 or newer is needed", rusqlite::version()),
                source: None,
            });
        }
        // Such as a device, whose mode must not be touched.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::Open {
                path: path.display().to_string(),
                problem: "it is no ordinary file: name one in inbox.url, or one that is not there yet".to_owned(),
                source: None,
            });
        }
        let lock = match access {
            Access::Guest => {
                fs::metadata(path).map_err(|error| {
                    problem(
                        "there is no inbox yet; it is made when `serve` first starts with this configuration",
                        error,
                    )
                })?;
                None
            }
            Access::Owner => {
                folder::make(folder::of(path)).map_err(|error| {
                    problem("its folder cannot be made; give the service a folder that it may write to", error)
                })?;
                let lock = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(folder::beside(path, ".lock"))
                    .map_err(|error| problem("its folder is not writable for this user", error))?;
                take(&lock).map_err(|error| match error {
                    fs::TryLockError::WouldBlock => Error::Open {
                        path: path.display().to_string(),
                        problem: "another linxo-webhook has it open; stop that one first".to_owned(),
                        source: None,
                    },
                    fs::TryLockError::Error(error) => problem("its lock file cannot be locked", error),
                })?;
                // Made here so that bank data is never readable by others, whatever the umask.
                OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(|error| problem("it is not writable for this user", error))?;
                folder::sync_name(path).map_err(|error| problem("its folder cannot be synced", error))?;
                for suffix in ["", "-wal", "-shm", ".lock"] {
                    narrow(&folder::beside(path, suffix))?;
                }
                Some(lock)
            }
        };
        Ok(Self { path: path.to_owned(), access, _lock: lock })
    }

    /// Opens, checks the header and brings the schema up to date.
    pub(super) fn open(&self) -> Result<Opened, Error> {
        self.try_open().map_err(|error| self.explain(error))
    }

    /// Opens after a failure, with everything that makes the file trustworthy again: a full structural check, and the log
    /// folded into the file and emptied, so that no page whose sync failed is built upon.
    pub(super) fn reopen(&self) -> Result<Opened, Error> {
        let recheck = || -> rusqlite::Result<Opened> {
            let opened = self.try_open()?;
            fold_log(&opened.connection)?;
            pages::check(&opened.connection)?;
            Ok(opened)
        };
        recheck().map_err(|error| self.explain(error))
    }

    /// Folds the log into the file and empties it, so that nothing of what was deleted stays in it. Waits a moment for
    /// whoever reads or writes.
    pub(super) fn fold_log(&self) -> Result<(), Error> {
        let fold = || -> rusqlite::Result<()> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(FOLD_PATIENCE)?;
            fold_log(&connection)
        };
        fold().map_err(|error| self.explain(error))
    }

    /// Folds of the log into the file what nobody is in the way of.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        let fold = || -> rusqlite::Result<()> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        };
        fold().map_err(|error| self.explain(error))
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, Error> {
        let open = || -> rusqlite::Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            distrust(&connection)?;
            keep_plans(&connection)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "query_only", true)?;
            connection.set_prepared_statement_cache_capacity(32);
            Ok(connection)
        };
        open().map_err(|error| self.explain(error))
    }

    /// A connection that reads, and may write copies elsewhere.
    pub(super) fn copier(&self) -> Result<Connection, Error> {
        let connection = self.reader()?;
        connection.pragma_update(None, "query_only", false).map_err(|error| self.explain(error))?;
        Ok(connection)
    }

    fn try_open(&self) -> rusqlite::Result<Opened> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(Duration::from_secs(if self.access == Access::Owner { 5 } else { 10 }))?;
        connection.set_prepared_statement_cache_capacity(128);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        distrust(&connection)?;
        keep_plans(&connection)?;
        if !connection.query_row("SELECT sqlite_compileoption_used('ENABLE_DBPAGE_VTAB')", [], |row| row.get(0))? {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISUSE),
                Some("this program was built without LIBSQLITE3_FLAGS of .cargo/config.toml and could not overwrite what is deleted".to_owned()),
            ));
        }
        let version = schema::version(&connection)?;
        if version > schema::VERSION || (version < schema::VERSION && self.access == Access::Guest) {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH),
                Some(format!("schema version {version}, this program knows {}", schema::VERSION)),
            ));
        }
        if version == 0 {
            let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables > 0 {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH),
                    Some("it is a database of something else".to_owned()),
                ));
            }
            set_page_size(&connection)?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL syncs each commit; NORMAL could lose acknowledged events at a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_SIZE_LIMIT)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_AT)?;
        connection.pragma_update(None, "cache_size", -32_768)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // Deleted bank data is overwritten, on pages that become free too.
        connection.pragma_update(None, "secure_delete", "ON")?;
        migrate::migrate(&mut connection, version)?;
        Ok(Opened { connection })
    }

    /// Puts the store's own error into words that say what to do.
    pub(super) fn explain(&self, error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode as Code;
        let problem = match error.sqlite_error_code() {
            _ if says_damage(&error) => {
                "it is damaged; put a backup in its place with `inbox restore`; without one, `inbox restore --from-journal` begins an \
                 empty inbox with the events of its journal; to give those up too, move it, what stands beside it and its journal away"
            }
            Some(Code::TypeMismatch) => {
                "it was made by another version of linxo-webhook or by another program; use the version that made it, or a newer one"
            }
            Some(Code::ReadOnly | Code::PermissionDenied | Code::CannotOpen) => {
                "it cannot be opened for writing; check the owner and mode of the file and its folder"
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => "another program holds it locked",
            Some(Code::DiskFull) => "its disk is full",
            _ => "the store failed",
        };
        Error::Open {
            path: self.path.display().to_string(),
            problem: problem.to_owned(),
            source: Some(Box::new(error)),
        }
    }
}

/// Whether an inbox file is missing or empty.
pub(crate) fn is_gone(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |meta| meta.len() == 0)
}

/// Refuses to begin with an empty inbox where what stands beside the file shows that there was one. SQLite would take a log for one
/// of an earlier file, and empty it.
///
/// # Errors
/// [`Error::Open`]: there was an inbox.
pub(crate) fn refuse_lost(path: &Path) -> Result<(), Error> {
    let log = folder::beside(path, "-wal");
    let problem = if !is_gone(&log) {
        "it is missing or empty, and its log is there, which may hold accepted events; put the file back beside its log, or restore a \
         backup with `inbox restore`; to begin with an empty inbox instead, move the log away"
            .to_owned()
    } else if let Some(reserve) = Reserve::beside(path).found() {
        format!(
            "it is missing or empty, and {} beside it shows that there was an inbox; put the file back, or restore a backup with \
             `inbox restore`; to begin with an empty inbox instead, delete {0}, which holds no events",
            reserve.display()
        )
    } else {
        return Ok(());
    };
    Err(Error::Open { path: path.display().to_string(), problem, source: None })
}

/// Takes the lock of an inbox that is about to be exchanged.
pub(crate) fn lock(path: &Path) -> Result<impl Send + use<>, Error> {
    Opener::new(path, Access::Owner)
}

/// Reads which inbox a file is, and how far the record of accepted events is in it. Writes nothing.
pub(crate) fn look(path: &Path) -> Result<(Identity, Position), Error> {
    let opener = Opener::new(path, Access::Guest)?;
    let connection = opener.reader()?;
    let read = || Ok((schema::identity(&connection)?, tx::reached(&connection)?));
    match schema::version(&connection) {
        // What an earlier version made is brought up to date by the next start.
        Ok(version) if version < schema::VERSION => Err(Error::Store("it was made by an earlier version".into())),
        _ => read().map_err(|error: rusqlite::Error| opener.explain(error)),
    }
}

/// Whether a file could not be opened because it is damaged.
pub(crate) fn is_damage(error: &Error) -> bool {
    cause(error).is_some_and(says_damage)
}

/// SQLite finds damage in pages alone. Behind a page that is merely wrong a row is not what this program wrote there.
pub(super) const fn says_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::{Error, ErrorCode, ffi};
    matches!(
        error,
        Error::SqliteFailure(ffi::Error { code: ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, .. }, _)
            | Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
            | Error::QueryReturnedNoRows
    )
}

/// Whether a file could not be opened because its disk is full.
pub(super) fn is_full(error: &Error) -> bool {
    cause(error).and_then(rusqlite::Error::sqlite_error_code) == Some(rusqlite::ErrorCode::DiskFull)
}

/// Whether a file could not be opened because another program holds it locked.
pub(crate) fn says_locked(error: &Error) -> bool {
    cause(error).is_some_and(is_lock)
}

fn is_lock(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Whether another program holds a file locked now. Writes nothing.
pub(crate) fn is_locked(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let tried = Connection::open_with_flags(path, flags).and_then(|file| {
        file.busy_timeout(Duration::ZERO)?;
        file.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
    });
    tried.is_err_and(|error| is_lock(&error))
}

fn cause(error: &Error) -> Option<&rusqlite::Error> {
    let (Error::Open { source: Some(source), .. } | Error::Store(source)) = error else { return None };
    source.downcast_ref()
}

/// Of a new file, before its first table: a third less disk than 4096, and faster.
pub(super) fn set_page_size(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", 8192)
}

/// Folds the whole log into the file and cuts it to nothing.
fn fold_log(connection: &Connection) -> rusqlite::Result<()> {
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if !is_busy {
        return Ok(());
    }
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Err(rusqlite::Error::SqliteFailure(busy, Some("somebody reads or writes the inbox".to_owned())))
}

/// Believes the file no more than needed: whoever could write to it must not make functions run by its schema, and a page
/// that is damaged shows when it is read and not later.
fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

/// Has a statement keep its plan. Otherwise a value that is bound to a kept statement may change it, as the condition of a
/// partial index might be met by another value, and each execution of such a statement parses and plans it anew.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Takes from others whatever they may do with a file that was there before: bank data is for its owner alone.
fn narrow(path: &Path) -> Result<(), Error> {
    let narrowed = || -> std::io::Result<()> {
        let mode = fs::metadata(path)?.permissions().mode();
        let others = mode & 0o077;
        if others == 0 {
            return Ok(());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
        tracing::warn!(code = "store_file_narrowed", path = %path.display(), "others could read or write this file; now only its owner can");
        Ok(())
    };
    match narrowed() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::Open {
            path: path.display().to_string(),
            problem: format!("others can read or write it; type `chmod 600 {}` as its owner", path.display()),
            source: Some(Box::new(error)),
        }),
        _ => Ok(()),
    }
}

/// Takes the lock; waits a moment for one that is about to let go, such as a process that is just ending.
fn take(lock: &File) -> Result<(), fs::TryLockError> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(LOCK_PATIENCE / 20),
            taken => return taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn a_commit_is_synced() {
        let folder = tempfile::TempDir::new().unwrap();
        let opened = Opener::new(&folder.path().join("inbox.db"), Access::Owner).unwrap().open().unwrap();
        let number = |pragma: &str| -> i64 {
            opened.connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(number("synchronous"), 2, "FULL");
        assert_eq!(number("secure_delete"), 1, "ON: free pages too");
        assert_eq!(number("page_size"), 8192);
        assert_eq!((number("trusted_schema"), number("cell_size_check")), (0, 1));
        let mode: String = opened.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound_to_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let opened = Opener::new(&folder.path().join("inbox.db"), Access::Owner).unwrap().open().unwrap();
        let mut statement = opened
            .connection
            .prepare("SELECT count(*) FROM stage WHERE seq = ?1 AND kind <= ?2 AND state <> ?3 LIMIT ?4")
            .unwrap();
        for seq in 0..10 {
            let none: i64 = statement.query_row((seq, 0, "done", 1), |row| row.get(0)).unwrap();
            assert_eq!(none, 0);
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
