//! Copies of the file, and what can be found out about one.

use super::{
    attach::{Attached, attach, forget_erased, rehearse},
    migrate::migrate,
    open::{Opener, is_full, set_page_size},
    schema, tx,
};
use crate::{
    Access, Error, Identity, Position, Settings, Source,
    seal::{Flaw, Owner, Place, Seal, Standing},
};
use base::{error::chain, folder};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

/// Bodies between two calls of a progress report.
const TELL_EVERY: u64 = 1_000;

/// How long somebody else's writing is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a whole file holds.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) identity: Identity,
    /// How far the record of accepted events is in it.
    pub(crate) reached: Position,
    /// Entries.
    pub(crate) entries: u64,
    /// The number of its newest entry.
    pub(crate) newest: u64,
    /// Those of them that are sealed and could not be opened, because no key is set.
    pub(crate) unopened: u64,
}

fn failed(error: rusqlite::Error) -> Error {
    Error::Store(Box::new(error))
}

/// Writes a copy of the file as it is at one moment, beside whoever writes to it meanwhile. The copy must not exist yet; it is
/// for its owner alone, holds nothing of what was deleted, and is on the disk when this returns.
pub(crate) fn copy(path: &Path, to: &Path) -> Result<(), Error> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let unusable = |problem: &str, error: Source| Error::Open {
        path: to.display().to_string(),
        problem: problem.to_owned(),
        source: Some(error),
    };
    create().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => unusable("it is there already; name a file that is not", error.into()),
        _ => unusable("it cannot be made; name a folder that may be written to", error.into()),
    })?;
    copy_into(path, to).map_err(|error| {
        // Half a copy must not be taken for a whole one.
        std::fs::remove_file(to).ok();
        if is_full(&error) {
            unusable("its disk has no room for a copy; name a folder on another disk", error.into())
        } else {
            error
        }
    })
}

fn copy_into(path: &Path, to: &Path) -> Result<(), Error> {
    // One read transaction from beginning to end: unlike SQLite's backup, it never begins again because somebody writes.
    let connection = Opener::new(path, Access::Guest)?.copier()?;
    let name = to.to_str().ok_or_else(|| Error::Store("the name of the copy is not UTF-8".into()))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
    let synced = File::open(to).and_then(|file| file.sync_all()).and_then(|()| folder::sync_name(to));
    synced.map_err(|error| Error::Store(Box::new(error)))
}

/// Reads a file from beginning to end, and compares each body with its digest; sealed ones with the keys of these settings. What
/// was erased since the file was made is passed over. `problem` is told what is wrong, `tell` how many
/// bodies were compared.
pub(crate) fn read_all(
    path: &Path,
    settings: &Settings,
    mut problem: impl FnMut(String),
    mut tell: impl FnMut(u64),
) -> Result<Contents, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let version = schema::version(&connection).map_err(failed)?;
    if version != schema::VERSION {
        return Err(Error::Open {
            path: path.display().to_string(),
            problem: format!(
                "it is of version {version} and not {}: use the version of linxo-webhook that wrote it; a start of this version \
                 brings the inbox itself up to date",
                schema::VERSION
            ),
            source: None,
        });
    }
    // One transaction, so that everything is of one moment.
    connection.execute_batch("BEGIN").map_err(failed)?;
    structure(&connection, &mut problem).map_err(failed)?;
    let Attached { seal, .. } = attach(&connection, settings, Access::Guest)?;
    let (entries, unopened) = bodies(&connection, &seal, &mut problem, &mut tell).map_err(failed)?;
    let read = || -> rusqlite::Result<_> {
        Ok((schema::identity(&connection)?, tx::reached(&connection)?, newest_of(&connection)?))
    };
    let (identity, reached, newest) = read().map_err(failed)?;
    Ok(Contents { identity, reached, entries, newest, unopened })
}

fn structure(connection: &Connection, problem: &mut impl FnMut(String)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check(20)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found: String = row.get(0)?;
        if found != "ok" {
            problem(format!("the file's structure is damaged: {found}"));
        }
    }
    Ok(())
}

fn bodies(
    connection: &Connection,
    seal: &Seal,
    problem: &mut impl FnMut(String),
    tell: &mut impl FnMut(u64),
) -> rusqlite::Result<(u64, u64)> {
    let mut statement = connection.prepare(
        "SELECT entry.seq, digest, body.bytes, key, connection, user FROM entry LEFT JOIN body USING (seq) ORDER BY entry.seq",
    )?;
    let mut rows = statement.query([])?;
    let (mut entries, mut unopened) = (0, 0);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let (body, key): (Option<Vec<u8>>, Option<i64>) = (row.get(2)?, row.get(3)?);
        let owner = Owner::new(&row.get::<_, String>(4)?, row.get::<_, Option<String>>(5)?.as_deref());
        let opened = match body {
            Some(body) => seal.open(key, &owner, Place::Body(seq), body),
            None => Err(Flaw::Changed),
        };
        match opened.and_then(|body| seal.digest(key, &body)) {
            Ok(found) if found == row.get::<_, [u8; 32]>(1)? => {}
            Ok(_) | Err(Flaw::Changed) => problem(format!("the event of entry {seq} is not the one that was accepted")),
            Err(Flaw::NoKey) => unopened += 1,
            Err(Flaw::Erased) => continue,
            Err(flaw) => problem(format!("the event of entry {seq} cannot be opened: {}", chain(&flaw))),
        }
        entries += 1;
        if entries % TELL_EVERY == 0 {
            tell(entries);
        }
    }
    Ok((entries, unopened))
}

/// The number of the newest entry of a file.
pub(crate) fn newest(path: &Path) -> Result<u64, Error> {
    newest_of(&Opener::new(path, Access::Guest)?.reader()?).map_err(failed)
}

fn newest_of(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM entry", [], |row| row.get(0).map(i64::unsigned_abs))
}

/// Which inbox a copy is of.
pub(crate) fn identity(path: &Path) -> Result<Identity, Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    schema::identity(&connection).map_err(failed)
}

/// A number that a file has noted.
pub(crate) fn number(path: &Path, name: &str) -> Result<Option<i64>, Error> {
    let connection = Opener::new(path, Access::Guest)?.reader()?;
    schema::number(&connection, name).map_err(failed)
}

/// Notes a number in a file.
pub(crate) fn set_number(path: &Path, name: &str, value: i64) -> Result<(), Error> {
    let note = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        schema::set_number(&connection, name, Some(value))?;
        connection.close().map_err(|(_, error)| error)
    };
    note().map_err(failed)
}

/// The next start folds the record of accepted events from behind this position.
pub(crate) fn go_on_from(path: &Path, reached: Position) -> Result<(), Error> {
    set_number(path, "position", reached.0.cast_signed())
}

/// How the seal of a file stands with these settings.
pub(crate) fn standing(path: &Path, settings: &Settings) -> Result<Standing, Error> {
    let connection = Opener::new(path, Access::Guest)?.reader()?;
    rehearse(&connection, settings)
}

/// Removes from a copy what was erased since it was made.
pub(crate) fn forget(copy: &Path, settings: &Settings) -> Result<(), Error> {
    let connection = Connection::open(copy).map_err(failed)?;
    connection.pragma_update(None, "secure_delete", "ON").map_err(failed)?;
    let Attached { seal, .. } = attach(&connection, settings, Access::Guest)?;
    forget_erased(&connection, &seal)?;
    connection.close().map_err(|(_, error)| failed(error))
}

/// Makes an empty file of an inbox, for a journal that still has events of it.
pub(crate) fn make_empty(path: &Path, identity: Identity) -> Result<(), Error> {
    let make = || -> Result<(), Source> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut connection = Connection::open(path)?;
        set_page_size(&connection)?;
        migrate(&mut connection, 0)?;
        connection.execute("UPDATE meta SET value = ?1 WHERE name = 'identity'", [identity.0])?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(())
    };
    make().map_err(Error::Store)
}

/// Puts a copy in the place of the file: a record of accepted events that reaches `reached` is the one that its journal goes on
/// from. Both are on the disk when this returns.
pub(crate) fn put_in_place(copy: &Path, path: &Path, reached: Option<Position>) -> Result<(), Error> {
    if let Some(reached) = reached {
        go_on_from(copy, reached)?;
    }
    let moved = File::open(copy).and_then(|file| file.sync_all()).and_then(|()| {
        std::fs::rename(copy, path)?;
        folder::sync_name(path)
    });
    moved.map_err(|error| Error::Store(Box::new(error)))
}
