//! How a store and its keys meet when it is opened.
//!
//! | the store | `inbox.key` | what happens |
//! | --- | --- | --- |
//! | not sealed | not set | everything is stored as it is |
//! | not sealed | set | the service makes the keys store, and seals from now on; what is there is sealed in the background |
//! | sealed | set | the key must be the right one; keys that an older key wraps are wrapped anew |
//! | sealed | not set | the service does not start; commands list, and open nothing |
//!
//! Rows of erased keys are removed before anybody sees them: they come with an old backup.

use super::{entries, open::says_damage, readings, schema, tx};
use crate::{
    Access, Error, Settings,
    seal::{Flaw, KeysFile, Ring, Seal, Standing},
};
use rusqlite::Connection;
use std::{collections::HashSet, path::Path, sync::Arc};

/// Names in `meta`. `sealed`: what is written is sealed. `plain`: there may be rows from before that are not. `keys`: the number
/// of the newest key that a row may have. `erasures`: that of the newest erased key whose rows are removed.
pub(super) const SEALED: &str = "sealed";
pub(super) const PLAIN: &str = "plain";
pub(super) const KEYS: &str = "keys";
pub(super) const ERASURES: &str = "erasures";

/// Entries that are looked at in one transaction.
const BATCH: i64 = 5_000;

/// What a store is opened with.
pub(super) struct Attached {
    pub(super) seal: Seal,
    /// The key of hashes, where it is in the keys store.
    pub(super) dedup: Option<[u8; 16]>,
}

/// Opens the keys of a store, as the head of this file says.
///
/// # Errors
/// [`Error::Seal`]: keys and data do not fit together.
pub(super) fn attach(connection: &Connection, settings: &Settings, access: Access) -> Result<Attached, Error> {
    let path = settings.keys_file();
    let is_sealed = schema::number(connection, SEALED).map_err(Flaw::from)?.is_some();
    let unusable = |flaw| refuse(&path, flaw);
    let ring = Ring::new(&settings.key).map_err(unusable)?.map(Arc::new);
    match (is_sealed, &ring, access) {
        (false, None, _) | (false, _, Access::Guest) => return Ok(Attached { seal: Seal::default(), dedup: None }),
        (true, None, Access::Owner) => return Err(no_key()),
        _ => {}
    }
    let identity = schema::identity(connection).map_err(Flaw::from)?.0;
    let file = KeysFile::open(&path, identity, !is_sealed).map_err(unusable)?.ok_or_else(|| missing(&path))?;
    if let Some(ring) = &ring {
        file.try_ring(ring).map_err(unusable)?;
    }
    if schema::number(connection, KEYS).map_err(Flaw::from)?.unwrap_or(0) > file.newest().map_err(unusable)?.0 {
        return Err(older(&path));
    }
    if let (Some(ring), Access::Owner) = (&ring, access) {
        let rewrapped = file.rewrap(ring).map_err(unusable)?;
        if rewrapped > 0 {
            tracing::info!(
                code = "keys_rewrapped",
                entries = rewrapped,
                "every data key is encrypted with the first key of inbox.key now; the others are needed for older backups alone"
            );
        }
    }
    if !is_sealed && let Some(ring) = &ring {
        file.set_ring(ring).map_err(unusable)?;
        begin(connection, &file).map_err(unusable)?;
    }
    let dedup = file.dedup().map_err(unusable)?.ok_or_else(|| missing(&path))?;
    Ok(Attached { seal: Seal::new(file, ring), dedup: Some(dedup) })
}

/// Finds out what the service would find when it starts. Writes nothing.
///
/// # Errors
/// [`Error::Seal`]: it would not start.
pub(super) fn rehearse(connection: &Connection, settings: &Settings) -> Result<Standing, Error> {
    let is_sealed = schema::number(connection, SEALED).map_err(Flaw::from)?.is_some();
    match (is_sealed, settings.key.is_empty()) {
        (false, true) => Ok(Standing::Off),
        (true, true) => Err(no_key()),
        (false, false) => {
            let path = settings.keys_file();
            let unusable = |flaw| refuse(&path, flaw);
            let identity = schema::identity(connection).map_err(Flaw::from)?.0;
            if let (Some(file), Some(ring)) =
                (KeysFile::open(&path, identity, false).map_err(unusable)?, Ring::new(&settings.key).map_err(unusable)?)
            {
                file.try_ring(&ring).and_then(|()| file.check()).map_err(unusable)?;
            }
            Ok(Standing::Ahead)
        }
        (true, false) => {
            let attached = attach(connection, settings, Access::Guest)?;
            if let Some(file) = attached.seal.keys() {
                file.check().map_err(|flaw| refuse(&settings.keys_file(), flaw))?;
            }
            let is_begun = schema::number(connection, PLAIN).map_err(Flaw::from)?.is_some();
            Ok(if is_begun { Standing::Begun } else { Standing::On })
        }
    }
}

/// From now on everything is sealed. The key of hashes is in the keys store before it leaves the store.
fn begin(connection: &Connection, file: &KeysFile) -> Result<(), Flaw> {
    let dedup: [u8; 16] = connection.query_row("SELECT value FROM meta WHERE name = 'dedup'", [], |row| row.get(0))?;
    file.set_dedup(&dedup)?;
    tx::run_at_once(connection, |tx| {
        schema::set_number(tx.connection, SEALED, Some(1))?;
        schema::set_number(tx.connection, PLAIN, Some(1))?;
        tx.connection.execute("DELETE FROM meta WHERE name = 'dedup'", []).map(drop)
    })?;
    Ok(())
}

/// The store is not sealed any more: what [`begin`] took from it comes back. For the end of an `unseal`.
pub(super) fn end(connection: &Connection, seal: &Seal) -> Result<(), Flaw> {
    let dedup = seal.keys().map(KeysFile::dedup).transpose()?.flatten().ok_or(Flaw::Missing)?;
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('dedup', ?1)", [dedup])?;
    for name in [SEALED, PLAIN, KEYS] {
        schema::set_number(connection, name, None)?;
    }
    Ok(())
}

/// Removes the rows of erased keys, where some were erased that this store has not seen.
pub(super) fn forget_erased(connection: &Connection, seal: &Seal) -> Result<(), Flaw> {
    let Some(file) = seal.keys() else { return Ok(()) };
    let (_, newest) = file.newest()?;
    if schema::number(connection, ERASURES)?.unwrap_or(0) == newest {
        return Ok(());
    }
    let erased: HashSet<i64> = file.erased()?.into_iter().collect();
    let (mut after, mut removed) = (0, 0);
    while let Some((last, found)) = erased_entries(connection, after, &erased)? {
        tx::run_at_once(connection, |tx| found.iter().try_for_each(|seq| entries::erase(tx, *seq)))?;
        (after, removed) = (last, removed + found.len() as u64);
    }
    tx::run_at_once(connection, |tx| {
        removed += forget_rest(tx.connection, &erased)?;
        schema::set_number(tx.connection, ERASURES, Some(newest))
    })?;
    if removed > 0 {
        tracing::warn!(
            code = "erased_rows_removed",
            entries = removed,
            "the inbox had rows of users or connections that were erased after it was copied; they are removed"
        );
    }
    Ok(())
}

/// The erased ones of some entries behind `after`, and the last entry that was looked at; `None`: there are no more.
fn erased_entries(
    connection: &Connection,
    after: i64,
    erased: &HashSet<i64>,
) -> rusqlite::Result<Option<(i64, Vec<i64>)>> {
    let mut statement = connection.prepare_cached("SELECT seq, key FROM entry WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = statement.query([after, BATCH])?;
    let (mut last, mut found) = (None, Vec::new());
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        last = Some(seq);
        if row.get::<_, Option<i64>>(1)?.is_some_and(|key| erased.contains(&key)) {
            found.push(seq);
        }
    }
    Ok(last.map(|last| (last, found)))
}

/// Readings and refused requests of erased keys.
fn forget_rest(connection: &Connection, erased: &HashSet<i64>) -> rusqlite::Result<u64> {
    let numbers = |sql: &str| -> rusqlite::Result<Vec<i64>> {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        let rows: Vec<(i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
        Ok(rows.into_iter().filter(|(_, key)| erased.contains(key)).map(|(number, _)| number).collect())
    };
    let mut readings: HashSet<i64> =
        numbers("SELECT reading, key FROM page WHERE key IS NOT NULL")?.into_iter().collect();
    readings.extend(numbers("SELECT id, key FROM reading WHERE key IS NOT NULL")?);
    for reading in &readings {
        readings::delete(connection, *reading)?;
    }
    let refused = numbers("SELECT number, key FROM refused WHERE key IS NOT NULL")?;
    for number in &refused {
        connection.execute("DELETE FROM refused WHERE number = ?1", [number])?;
    }
    Ok((readings.len() + refused.len()) as u64)
}

fn no_key() -> Error {
    Error::Seal {
        problem: "it is sealed, and inbox.key is not set: set it to the key file that it was sealed with; to take the seal away \
                  on purpose, set it once more and run `linxo-webhook inbox unseal`"
            .to_owned(),
        source: None,
    }
}

fn missing(path: &Path) -> Error {
    Error::Seal {
        problem: format!(
            "it is sealed, and its keys store {} is not there: put it back, from a copy that `inbox backup --keys` made",
            path.display()
        ),
        source: None,
    }
}

fn older(path: &Path) -> Error {
    Error::Seal {
        problem: format!(
            "its keys store {} is older than the inbox, which has rows that it has no key for: put the newest copy back",
            path.display()
        ),
        source: None,
    }
}

fn refuse(path: &Path, flaw: Flaw) -> Error {
    let problem = match flaw {
        Flaw::OtherKey | Flaw::Changed => {
            "inbox.key is not the key that it is sealed with: put that one back, or add it to the list behind the new one"
                .to_owned()
        }
        Flaw::Store(ref error) if says_damage(error) => format!(
            "its keys store {} is damaged: stop the service, and put back the newest copy that `inbox backup --keys` made",
            path.display()
        ),
        _ => format!("its keys store {} cannot be used", path.display()),
    };
    Error::Seal { problem, source: Some(Box::new(flaw)) }
}
