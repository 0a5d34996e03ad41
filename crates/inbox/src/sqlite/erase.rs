//! [`Persons`] on the file: what is held of somebody, and its erasure.
//!
//! An erasure ends with one transaction that deletes what is left, and that is where the keys are erased too, before its
//! commit. So a crash in between leaves rows whose keys are gone, and these are removed at the next opening; it never leaves
//! keys whose rows are gone. Everything is sealed by the thread of that transaction, so no row can come in between under an
//! erased key.

use super::{attach, entries, readings, refused, schema, store::Sqlite, tx::Tx};
use crate::{
    Erased, Error, Held, HeldReading, Persons, ReadingId, Seq, Span, Subject, fold,
    persons::names_it,
    seal::{Flaw, KeysFile, Owner, Place, Seal},
};
use async_trait::async_trait;
use base::clock::Timestamp;
use event::{ConnectionId, UserId};
use rusqlite::{Connection, Row, params};
use std::{collections::BTreeSet, sync::Arc};

/// Entries deleted in one transaction before the last one, so that nobody else waits for long.
const BATCH: usize = 500;

#[async_trait]
impl Persons for Sqlite {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        let (subject, seal) = (subject.clone(), Arc::clone(&self.seal));
        let found = self.read(move |connection| Ok(gather(connection, &seal, &subject, 0, &BTreeSet::new())?)).await?;
        Ok(Held {
            entries: found.entries.into_iter().map(Seq).collect(),
            readings: found.readings,
            refused: found.refused,
        })
    }

    async fn erase(&self, subject: &Subject) -> Result<Erased, Error> {
        let mut erased = self.erase_rows(subject).await?;
        if let Err(error) = self.clear().await {
            erased.left.push(log_left(&error));
        }
        Ok(erased)
    }
}

/// The log beside the file could not be emptied.
pub(crate) fn log_left(error: &Error) -> String {
    format!(
        "the log or the journal beside the inbox could not be emptied now ({}): run the command again",
        base::error::chain(error)
    )
}

/// What is held of somebody, and under whose keys.
#[derive(Debug)]
struct Found {
    connections: BTreeSet<String>,
    entries: Vec<i64>,
    readings: Vec<HeldReading>,
    refused: Vec<crate::RefusedView>,
}

impl Sqlite {
    /// Erases the rows and the keys. The log beside the file may still hold something.
    pub(crate) async fn erase_rows(&self, subject: &Subject) -> Result<Erased, Error> {
        let (of, seal) = (subject.clone(), Arc::clone(&self.seal));
        let first = self.read(move |connection| Ok(gather(connection, &seal, &of, 0, &BTreeSet::new())?)).await?;
        let mut deleted = 0;
        for batch in first.entries.chunks(BATCH) {
            let batch: Arc<[i64]> = batch.into();
            deleted += self.write_to_free(move |tx| delete(tx, &batch)).await?;
        }
        let (subject, seal) = (subject.clone(), Arc::clone(&self.seal));
        let after = first.entries.iter().max().copied().unwrap_or(0);
        let connections = Arc::new(first.connections);
        // With the last entry that needs it a reading goes by itself.
        let readings: Arc<BTreeSet<i64>> = Arc::new(first.readings.iter().map(|reading| reading.id.0).collect());
        let last =
            self.write_to_free(move |tx| Ok(finish(tx, &seal, &subject, after, (&connections, &readings))?)).await?;
        let seal = Arc::clone(&self.seal);
        self.write(move |tx| Ok(drop_unused_days(tx, &seal)?)).await?;
        let seal = Arc::clone(&self.seal);
        // Not on the writer's thread: it takes as long as the keys store is large.
        self.read(move |_connection| Ok(seal.keys().map_or(Ok(()), KeysFile::write_anew)?)).await?;
        Ok(Erased { entries: deleted + last.entries, is_sealed: self.seal.is_on(), ..last })
    }
}

fn delete(tx: &mut Tx<'_>, seqs: &[i64]) -> rusqlite::Result<u64> {
    let mut deleted = 0;
    for seq in seqs {
        // Retention, or a purge, may have been first.
        if tx.connection.prepare_cached("SELECT 1 FROM entry WHERE seq = ?1")?.exists([seq])? {
            entries::erase(tx, *seq)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// The last transaction.
fn finish(
    tx: &mut Tx<'_>,
    seal: &Seal,
    subject: &Subject,
    after: i64,
    (connections, readings): (&BTreeSet<String>, &BTreeSet<i64>),
) -> Result<Erased, Flaw> {
    let found = gather(tx.connection, seal, subject, after, connections)?;
    let entries = delete(tx, &found.entries)?;
    for reading in &found.readings {
        readings::delete(tx.connection, reading.id.0)?;
    }
    delete_refused(tx, seal, &found.refused)?;
    for connection in &found.connections {
        forget_line(tx, connection)?;
    }
    let mut keys = 0;
    for owner in owners(seal, subject, &found.connections)? {
        keys += u64::from(seal.erase(&owner, tx.now)?);
    }
    note_erasures(tx, seal)?;
    let new = found.readings.iter().filter(|reading| !readings.contains(&reading.id.0)).count();
    let (readings, refused) = ((readings.len() + new) as u64, found.refused.len() as u64);
    Ok(Erased { entries, readings, refused, keys, ..Erased::default() })
}

/// This store has seen every erasure so far.
fn note_erasures(tx: &Tx<'_>, seal: &Seal) -> Result<(), Flaw> {
    if let Some(file) = seal.keys() {
        schema::set_number(tx.connection, attach::ERASURES, Some(file.newest()?.1))?;
    }
    Ok(())
}

/// Whose keys go.
fn owners(seal: &Seal, subject: &Subject, connections: &BTreeSet<String>) -> Result<Vec<Owner>, Flaw> {
    let Some(file) = seal.keys() else { return Ok(Vec::new()) };
    Ok(match subject {
        Subject::User(user) => connections
            .iter()
            .flat_map(|connection| [Owner::new(connection, Some(user.as_str())), Owner::new(connection, None)])
            .collect(),
        Subject::Connection(connection) => {
            let users = file.users_of(connection.as_str())?;
            users.iter().map(|user| Owner::new(connection.as_str(), user.as_deref())).collect()
        }
    })
}

/// Forgets the line of a connection that nobody has entries of any more, and what sinks were given of it.
fn forget_line(tx: &Tx<'_>, connection: &str) -> rusqlite::Result<()> {
    let line = fold::line(connection);
    let is_used = tx.connection.prepare_cached("SELECT 1 FROM entry WHERE connection = ?1")?.exists([connection])?;
    if !is_used {
        tx.connection.prepare_cached("DELETE FROM shortfall WHERE line = ?1")?.execute([line])?;
        tx.connection.prepare_cached("DELETE FROM delivered WHERE line = ?1")?.execute([line])?;
    }
    Ok(())
}

/// Deletes refused requests. Others of the same days are sealed with a new key, so that the old ones can be erased.
fn delete_refused(tx: &Tx<'_>, seal: &Seal, requests: &[crate::RefusedView]) -> Result<(), Flaw> {
    let mut days = BTreeSet::new();
    for request in requests {
        tx.connection.prepare_cached("DELETE FROM refused WHERE number = ?1")?.execute([request.number])?;
        if let Owner::Day(day) = Owner::day(request.at) {
            days.insert(day);
        }
    }
    if !seal.is_on() || days.is_empty() {
        return Ok(());
    }
    let kept: Vec<(i64, i64, i64, Vec<u8>)> = tx
        .connection
        .prepare("SELECT number, at, key, start FROM refused WHERE start IS NOT NULL AND key IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for day in &days {
        seal.renew(&Owner::Day(*day))?;
    }
    for (number, at, key, start) in kept {
        let owner = Owner::day(Timestamp::from_millis(at));
        if !matches!(owner, Owner::Day(day) if days.contains(&day)) {
            continue;
        }
        let place = Place::Refused(number);
        let plain = seal.open(Some(key), &owner, place, start)?;
        let sealed = seal.seal(&owner, place, &plain)?;
        tx.connection.prepare_cached("UPDATE refused SET key = ?2, start = ?3 WHERE number = ?1")?.execute(params![
            number,
            sealed.key,
            sealed.bytes
        ])?;
    }
    Ok(())
}

/// Erases keys of days that a newer key has replaced and that no row needs: after the commit of what replaced them.
fn drop_unused_days(tx: &Tx<'_>, seal: &Seal) -> Result<(), Flaw> {
    let Some(file) = seal.keys() else { return Ok(()) };
    for id in file.replaced_days()? {
        if !tx.connection.prepare_cached("SELECT 1 FROM refused WHERE key = ?1")?.exists([id])? {
            file.erase_id(id, tx.now)?;
        }
    }
    note_erasures(tx, seal)
}

/// Finds what is held of somebody: entries behind `after`, and everything else. `known` are connections of theirs that rows may not
/// tell any more.
fn gather(
    connection: &Connection,
    seal: &Seal,
    subject: &Subject,
    after: i64,
    known: &BTreeSet<String>,
) -> Result<Found, Flaw> {
    let mut connections = connections(connection, seal, subject)?;
    connections.extend(known.iter().cloned());
    let names: Vec<&str> = connections.iter().map(String::as_str).collect();
    let list = serde_json::Value::from(names.clone()).to_string();
    let (condition, id) = match subject {
        Subject::User(user) => {
            ("(user = ?1 OR (user IS NULL AND connection IN (SELECT value FROM json_each(?2))))", user.as_str())
        }
        Subject::Connection(id) => ("(connection = ?1 AND ?2 IS NOT NULL)", id.as_str()),
    };
    // Those without a user first: should this end half-way, the others still tell the connections.
    let entries = connection
        .prepare(&format!("SELECT seq FROM entry WHERE {condition} AND seq > ?3 ORDER BY user IS NOT NULL, seq"))?
        .query_map(params![id, list, after], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let readings = connection
        .prepare(&format!(
            "SELECT id, connection, user, started, key, resource FROM reading WHERE {condition} ORDER BY id"
        ))?
        .query_map(params![id, list], |row| reading(row, seal))?
        .collect::<rusqlite::Result<_>>()?;
    let mut refused = refused::list(connection, seal, Span::default(), usize::MAX >> 1)?;
    refused.retain(|request| {
        let start = request.start.as_deref().unwrap_or_default();
        names.iter().copied().chain([id]).any(|id| names_it(start, id.as_bytes()))
    });
    Ok(Found { connections, entries, readings, refused })
}

fn reading(row: &Row<'_>, seal: &Seal) -> rusqlite::Result<HeldReading> {
    let id: i64 = row.get(0)?;
    let (of, user): (String, Option<String>) = (row.get(1)?, row.get(2)?);
    let resource: Option<Vec<u8>> = row.get(5)?;
    let key = row.get(4)?;
    let resource = resource
        .map(|stored| seal.open(key, &Owner::new(&of, user.as_deref()), Place::Resource(id), stored))
        .transpose()?;
    Ok(HeldReading {
        id: ReadingId(id),
        connection: ConnectionId::new(of),
        user: user.map(UserId::new),
        started: Timestamp::from_millis(row.get(3)?),
        resource,
    })
}

/// The connections that somebody has, as rows and keys tell.
fn connections(connection: &Connection, seal: &Seal, subject: &Subject) -> Result<BTreeSet<String>, Flaw> {
    let user = match subject {
        Subject::User(user) => user.as_str(),
        Subject::Connection(id) => return Ok(BTreeSet::from([id.as_str().to_owned()])),
    };
    let mut found: BTreeSet<String> = connection
        .prepare("SELECT connection FROM entry WHERE user = ?1 UNION SELECT connection FROM reading WHERE user = ?1")?
        .query_map([user], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    found.extend(seal.keys().map(|file: &KeysFile| file.connections_of(user)).transpose()?.unwrap_or_default());
    Ok(found)
}
