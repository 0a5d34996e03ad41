//! The keys store: one small SQLite file with every data key, wrapped by the key file, and the ids of erased ones.
//!
//! A commit is synced before it returns. The file has no log beside it, so a copy of the file alone is whole. What is deleted is
//! overwritten. The key of the hashes by which the same content is recognised is here too, as it is and never exchanged: without
//! it nobody can try out guesses of contents on a copy of the inbox.

use super::{flaw::Flaw, place::Owner, ring::Ring, wrapping::Kept};
use crate::pages;
use base::{clock::Timestamp, folder, sync::lock};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// The version of the tables.
const VERSION: i64 = 1;
const TABLES: &str = "
    -- identity: of the inbox. dedup: see the head. canary: a wrapped key that nothing is sealed with; a wrong key file cannot open it.
    CREATE TABLE meta (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
    -- Of a connection and a user (NULL: none is named), or of a day.
    CREATE TABLE key (
        number     INTEGER PRIMARY KEY AUTOINCREMENT,
        id         INTEGER NOT NULL UNIQUE,
        connection TEXT,
        user       TEXT,
        day        INTEGER,
        wrapped    BLOB    NOT NULL
    ) STRICT;
    CREATE INDEX key_owner ON key (connection, user, day);
    -- Keys that are no more. Nothing here says whose they were.
    CREATE TABLE erased (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id     INTEGER NOT NULL UNIQUE,
        at     INTEGER NOT NULL
    ) STRICT;";
/// How long a command beside the service waits for a commit.
const BUSY: Duration = Duration::from_secs(5);

/// The open file.
#[derive(Debug)]
pub(crate) struct KeysFile {
    identity: [u8; 16],
    connection: Mutex<Connection>,
    /// The number of the newest key that was made through this handle.
    made: AtomicI64,
}

impl KeysFile {
    /// Opens the file of an inbox; `None`: there is none, and `make` says that none is to be made.
    pub(crate) fn open(path: &Path, identity: [u8; 16], make: bool) -> Result<Option<Self>, Flaw> {
        if is_missing(path) {
            if !make {
                return Ok(None);
            }
            create(path).map_err(|error| cannot_open(&error))?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "DELETE")?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            VERSION => {}
            0 if make => {
                let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                tx.execute_batch(TABLES)?;
                tx.execute("INSERT INTO meta (name, value) VALUES ('identity', ?1)", [identity])?;
                tx.pragma_update(None, "user_version", VERSION)?;
                tx.commit()?;
                folder::sync_name(path).map_err(|error| cannot_open(&error))?;
            }
            other => return Err(mismatch(format!("version {other} of the keys store is not known"))),
        }
        let found = meta(&connection, "identity")?;
        if found.as_deref() != Some(identity.as_slice()) {
            return Err(mismatch("it is the keys store of another inbox".to_owned()));
        }
        Ok(Some(Self { identity, connection: Mutex::new(connection), made: AtomicI64::new(0) }))
    }

    fn file(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }

    /// Of the inbox.
    pub(crate) const fn identity(&self) -> &[u8; 16] {
        &self.identity
    }

    /// Reads every page.
    ///
    /// # Errors
    /// [`Flaw::Store`]: one is damaged.
    pub(crate) fn check(&self) -> Result<(), Flaw> {
        Ok(pages::check(&self.file())?)
    }

    /// Finds out whether the key file is the right one.
    pub(crate) fn try_ring(&self, ring: &Ring) -> Result<(), Flaw> {
        let canary = meta(&self.file(), "canary")?;
        canary.map_or(Ok(()), |canary| ring.try_canary(&self.identity, &canary))
    }

    /// The first key file is the right one.
    pub(crate) fn set_ring(&self, ring: &Ring) -> Result<(), Flaw> {
        let file = self.file();
        match meta(&file, "canary")? {
            Some(_) => Ok(()),
            None => set_meta(&file, "canary", &ring.canary(&self.identity)?),
        }
    }

    /// Wraps with the newest key of the ring what another one wraps; returns how many keys that were.
    pub(crate) fn rewrap(&self, ring: &Ring) -> Result<u64, Flaw> {
        let mut file = self.file();
        let tx = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(canary) = meta(&tx, "canary")?.filter(|canary| !ring.is_newest(canary)) {
            ring.try_canary(&self.identity, &canary)?;
            set_meta(&tx, "canary", &ring.canary(&self.identity)?)?;
        }
        let old: Vec<Kept> = {
            let mut keys = tx.prepare("SELECT id, wrapped FROM key")?;
            let keys = keys.query_map([], kept)?.filter(|key| key.as_ref().map_or(true, |(_, by)| !ring.is_newest(by)));
            keys.collect::<rusqlite::Result<_>>()?
        };
        for key in &old {
            let wrapped = ring.rewrap(&self.identity, key)?;
            tx.execute("UPDATE key SET wrapped = ?2 WHERE id = ?1", params![key.0, wrapped])?;
        }
        tx.commit()?;
        Ok(old.len() as u64)
    }

    /// The key of the hashes by which the same content is recognised.
    pub(crate) fn dedup(&self) -> Result<Option<[u8; 16]>, Flaw> {
        Ok(meta(&self.file(), "dedup")?.and_then(|key| key.try_into().ok()))
    }

    pub(crate) fn set_dedup(&self, key: &[u8; 16]) -> Result<(), Flaw> {
        set_meta(&self.file(), "dedup", key)
    }

    /// The wrapped key of each owner. Those that have none get one, in one commit.
    pub(crate) fn find_or_make(&self, owners: &[Owner], ring: &Ring) -> Result<Vec<(Owner, Kept)>, Flaw> {
        let mut file = self.file();
        let mut found = Vec::with_capacity(owners.len());
        let mut missing = Vec::new();
        for owner in owners {
            match find(&file, owner)? {
                Some(kept) => found.push((owner.clone(), kept)),
                None => missing.push(owner),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let tx = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for owner in missing {
            // Twice in one list, or made by another meanwhile.
            let kept = match find(&tx, owner)? {
                Some(kept) => kept,
                None => self.make(&tx, owner, ring)?,
            };
            found.push((owner.clone(), kept));
        }
        tx.commit()?;
        Ok(found)
    }

    fn make(&self, tx: &Transaction<'_>, owner: &Owner, ring: &Ring) -> Result<Kept, Flaw> {
        let (id, wrapped) = ring.make(&self.identity)?;
        let (connection, user, day) = columns(owner);
        tx.prepare_cached("INSERT INTO key (id, connection, user, day, wrapped) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, connection, user, day, wrapped])?;
        self.made.fetch_max(tx.last_insert_rowid(), Ordering::Relaxed);
        Ok((id, wrapped))
    }

    /// The wrapped key with this id.
    pub(crate) fn by_id(&self, id: i64) -> Result<Vec<u8>, Flaw> {
        let file = self.file();
        let found = file.prepare_cached("SELECT wrapped FROM key WHERE id = ?1")?.query_row([id], |row| row.get(0));
        if let Some(wrapped) = found.optional()? {
            return Ok(wrapped);
        }
        let erased = file.prepare_cached("SELECT 1 FROM erased WHERE id = ?1")?.exists([id])?;
        Err(if erased { Flaw::Erased } else { Flaw::Missing })
    }

    /// Every connection that a user has keys of.
    pub(crate) fn connections_of(&self, user: &str) -> Result<Vec<String>, Flaw> {
        let file = self.file();
        let mut keys = file.prepare("SELECT DISTINCT connection FROM key WHERE user = ?1")?;
        Ok(keys.query_map([user], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Erases the keys of an owner, and notes that they are no more. Returns their ids: one as a rule, two after a merge.
    pub(crate) fn erase(&self, owner: &Owner, now: Timestamp) -> Result<Vec<i64>, Flaw> {
        let (connection, user, day) = columns(owner);
        let mut file = self.file();
        let tx = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ids: Vec<i64> = tx
            .prepare_cached("SELECT id FROM key WHERE connection IS ?1 AND user IS ?2 AND day IS ?3")?
            .query_map(params![connection, user, day], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for id in &ids {
            tx.execute("INSERT OR IGNORE INTO erased (id, at) VALUES (?1, ?2)", [*id, now.as_millis()])?;
            tx.execute("DELETE FROM key WHERE id = ?1", [id])?;
        }
        tx.commit()?;
        Ok(ids)
    }

    /// Writes the file anew, without the bytes that erased keys leave behind: `secure_delete` overwrites a row where it stands,
    /// and not where it stood before its page was divided.
    pub(crate) fn write_anew(&self) -> Result<(), Flaw> {
        // No key goes to a temporary file.
        Ok(self.file().execute_batch("PRAGMA temp_store = MEMORY; VACUUM")?)
    }

    /// As [`erase`](Self::erase), one key.
    pub(crate) fn erase_id(&self, id: i64, now: Timestamp) -> Result<(), Flaw> {
        let mut file = self.file();
        let tx = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute("INSERT OR IGNORE INTO erased (id, at) VALUES (?1, ?2)", [id, now.as_millis()])?;
        tx.execute("DELETE FROM key WHERE id = ?1", [id])?;
        Ok(tx.commit()?)
    }

    /// Makes a new key for an owner, beside the one that it has. What is sealed from now on is sealed with the new one.
    pub(crate) fn renew(&self, owner: &Owner, ring: &Ring) -> Result<(), Flaw> {
        let mut file = self.file();
        let tx = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.make(&tx, owner, ring)?;
        Ok(tx.commit()?)
    }

    /// Keys of days that have a newer one.
    pub(crate) fn replaced_days(&self) -> Result<Vec<i64>, Flaw> {
        let file = self.file();
        let mut keys = file.prepare(
            "SELECT id FROM key WHERE day IS NOT NULL AND number < (SELECT max(number) FROM key AS other WHERE other.day = key.day)",
        )?;
        Ok(keys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The users of a connection that have keys; `None` stands for the key of what names no user.
    pub(crate) fn users_of(&self, connection: &str) -> Result<Vec<Option<String>>, Flaw> {
        let file = self.file();
        let mut keys = file.prepare("SELECT user FROM key WHERE connection = ?1")?;
        Ok(keys.query_map([connection], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The ids of every erased key.
    pub(crate) fn erased(&self) -> Result<Vec<i64>, Flaw> {
        let file = self.file();
        let mut ids = file.prepare("SELECT id FROM erased")?;
        Ok(ids.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The number of the newest key that was made since this was opened; 0: none was.
    pub(crate) fn newest_made(&self) -> i64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Numbers of the newest key, and of the newest erasure. They only grow.
    pub(crate) fn newest(&self) -> Result<(i64, i64), Flaw> {
        let file = self.file();
        let newest = |table: &str| -> rusqlite::Result<i64> {
            let found =
                file.query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0)).optional();
            Ok(found?.unwrap_or(0))
        };
        Ok((newest("key")?, newest("erased")?))
    }
}

/// Copies a keys store to a file that is not there yet, for its owner alone.
pub(crate) fn copy(path: &Path, to: &Path) -> Result<(), Flaw> {
    if to.exists() {
        return Err(cannot_open(&io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    create(to).map_err(|error| cannot_open(&error))?;
    let copied = || -> Result<(), Flaw> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY)?;
        let name = to.to_str().ok_or_else(|| mismatch("the name of the copy is not UTF-8".to_owned()))?;
        connection.execute("VACUUM INTO ?1", [name])?;
        let synced = File::open(to).and_then(|file| file.sync_all()).and_then(|()| folder::sync_name(to));
        synced.map_err(|error| cannot_open(&error))
    };
    copied().inspect_err(|_| drop(std::fs::remove_file(to)))
}

/// Adds the keys of a copy to a keys store. What either of them has erased stays erased.
pub(crate) fn merge(from: &Path, path: &Path, identity: [u8; 16]) -> Result<(), Flaw> {
    // Tells whether it is a keys store of this inbox.
    KeysFile::open(from, identity, false)?.ok_or_else(|| cannot_open(&io::Error::from(io::ErrorKind::NotFound)))?;
    if is_missing(path) {
        // An empty one would be in the way of the copy.
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_open(&error)),
            _ => copy(from, path),
        };
    }
    let Some(store) = KeysFile::open(path, identity, false)? else { return Ok(()) };
    let file = store.file();
    let name = from.to_str().ok_or_else(|| mismatch("the name of the copy is not UTF-8".to_owned()))?;
    file.execute("ATTACH ?1 AS other", [name])?;
    file.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT OR IGNORE INTO erased (id, at) SELECT id, at FROM other.erased ORDER BY number;
         DELETE FROM key WHERE id IN (SELECT id FROM erased);
         INSERT OR IGNORE INTO key (id, connection, user, day, wrapped)
             SELECT id, connection, user, day, wrapped FROM other.key
             WHERE id NOT IN (SELECT id FROM erased) ORDER BY number;
         INSERT OR IGNORE INTO meta (name, value) SELECT name, value FROM other.meta;
         COMMIT;
         DETACH other;",
    )?;
    Ok(())
}

fn columns(owner: &Owner) -> (Option<&str>, Option<&str>, Option<i64>) {
    match owner {
        Owner::Connection { connection, user } => (Some(connection), user.as_deref(), None),
        Owner::Day(day) => (None, None, Some(*day)),
    }
}

/// The newest key of an owner: after a merge there may be two.
fn find(connection: &Connection, owner: &Owner) -> Result<Option<Kept>, Flaw> {
    let (of, user, day) = columns(owner);
    let found = connection
        .prepare_cached(
            "SELECT id, wrapped FROM key WHERE connection IS ?1 AND user IS ?2 AND day IS ?3 ORDER BY number DESC LIMIT 1",
        )?
        .query_row(params![of, user, day], kept)
        .optional()?;
    Ok(found)
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok((row.get(0)?, row.get(1)?))
}

fn meta(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, Flaw> {
    Ok(connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()?)
}

fn set_meta(connection: &Connection, name: &str, value: &[u8]) -> Result<(), Flaw> {
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![name, value])?;
    Ok(())
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |meta| meta.len() == 0)
}

/// An empty file for its owner alone, in a folder for its owner alone where there is none.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder::of(path))?;
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

fn cannot_open(error: &io::Error) -> Flaw {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    Flaw::Store(rusqlite::Error::SqliteFailure(code, Some(error.to_string())))
}

fn mismatch(problem: String) -> Flaw {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_MISMATCH);
    Flaw::Store(rusqlite::Error::SqliteFailure(code, Some(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{clock, secret::Secret};
    use tempfile::TempDir;

    /// Whatever SQLite does with its pages: a file that is written anew has no unused ones. Keys are wrapped with random nonces, so what
    /// is written of one is found nowhere else.
    #[test]
    fn nothing_of_an_erased_key_is_left_in_the_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys.db");
        let ring = Ring::new(&[Secret::new("07".repeat(32))]).unwrap().unwrap();
        let file = KeysFile::open(&path, [7; 16], true).unwrap().unwrap();
        file.set_ring(&ring).unwrap();
        // Of many lengths, made and erased out of order: rows move between pages.
        let name = |n: usize| format!("{n}{}", "c".repeat(n * 131 % 1500));
        let owners: Vec<Owner> = (0..600).map(|n| Owner::new(&name(n * 7 % 600), Some("u"))).collect();
        let mut wrapped = Vec::new();
        for some in owners.chunks(13) {
            wrapped.extend(file.find_or_make(some, &ring).unwrap());
        }
        let (erased, left): (Vec<_>, Vec<_>) = (0..600).partition(|n| n * 37 % 600 < 500);
        for n in &erased {
            file.erase(&wrapped[n * 37 % 600].0, clock::now()).unwrap();
        }
        let size = || std::fs::metadata(&path).unwrap().len();
        let before = size();
        file.write_anew().unwrap();
        assert!(size() < before / 2, "five of six keys are gone");
        drop(file);
        let bytes = std::fs::read(&path).unwrap();
        let is_there = |(_, wrapped): &Kept| memchr::memmem::find(&bytes, wrapped).is_some();
        let found = |some: &[usize]| some.iter().filter(|n| is_there(&wrapped[*n * 37 % 600].1)).count();
        assert_eq!(found(&left), left.len(), "the search finds what is there");
        assert_eq!(found(&erased), 0);
    }
}
