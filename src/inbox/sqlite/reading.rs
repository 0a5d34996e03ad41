//! Readings: a connection's accounts as fetched page by page, kept so that neither a crash nor a second event of the same
//! connection fetches them again.

use super::writer::Tx;
use crate::inbox::{Certainty, EntryFacts, Found, Page, PageFacts, Reading, ReadingId};
use base::clock::Timestamp;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::time::Duration;

/// Finds a reading younger than the entry, or begins one. Completions of one connection are leased one after the other,
/// and only the one who holds the lease may write: an open reading that is found belongs to nobody else.
pub(super) fn find_or_begin(tx: &mut Tx<'_>, entry: &EntryFacts, resume_within: Duration) -> rusqlite::Result<Reading> {
    let youngest: Option<(i64, i64, i64, Option<Found>)> = tx
        .connection
        .prepare_cached(
            "SELECT id, started, changed, accounts, certainty FROM reading
             WHERE connection = ?1 AND user IS ?2 AND started >= ?3 ORDER BY started DESC, id DESC LIMIT 1",
        )?
        .query_row(params![entry.connection, entry.user, entry.accepted.as_millis()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, found(row, 3)?))
        })
        .optional()?;
    if let Some((id, started, changed, found)) = youngest
        && (found.is_some() || changed >= tx.now.before(resume_within).as_millis())
    {
        let pages = if found.is_some() { Vec::new() } else { page_facts(tx.connection, id)? };
        return Ok(Reading { id: ReadingId(id), started: Timestamp::from_millis(started), found, pages });
    }
    begin(tx, entry)
}

pub(super) fn begin(tx: &mut Tx<'_>, entry: &EntryFacts) -> rusqlite::Result<Reading> {
    drop_unfinished(tx, &entry.connection, entry.user.as_deref())?;
    let id = tx
        .connection
        .prepare_cached(
            "INSERT INTO reading (connection, user, started, changed) VALUES (?1, ?2, ?3, ?3) RETURNING id",
        )?
        .query_row(params![entry.connection, entry.user, tx.now.as_millis()], |row| row.get(0))?;
    Ok(Reading { id: ReadingId(id), started: tx.now, found: None, pages: Vec::new() })
}

/// What a finished reading holds, from its columns `accounts` and `certainty`.
pub(super) fn found(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Found>> {
    let (accounts, certainty): (Option<i64>, Option<i64>) = (row.get(index)?, row.get(index + 1)?);
    let certainty = match certainty {
        Some(0) => Certainty::AsAnnounced,
        Some(1) => Certainty::Agreed,
        _ => Certainty::Unsettled,
    };
    let accounts = accounts.and_then(|accounts| u64::try_from(accounts).ok());
    Ok(accounts.map(|accounts| Found { accounts, certainty }))
}

/// Removes what was read for an entry and not finished.
pub(super) fn drop_open(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let (connection, user): (String, Option<String>) = tx
        .connection
        .prepare_cached("SELECT connection, user FROM event WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    drop_unfinished(tx, &connection, user.as_deref())
}

/// Removes readings of the connection that were never finished.
fn drop_unfinished(tx: &mut Tx<'_>, connection: &str, user: Option<&str>) -> rusqlite::Result<()> {
    let open: Vec<i64> = tx
        .connection
        .prepare_cached("SELECT id FROM reading WHERE connection = ?1 AND user IS ?2 AND accounts IS NULL")?
        .query_map(params![connection, user], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in open {
        tx.connection.prepare_cached("DELETE FROM page WHERE reading = ?1")?.execute([id])?;
        tx.connection.prepare_cached("DELETE FROM reading WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

fn page_facts(connection: &Connection, reading: i64) -> rusqlite::Result<Vec<PageFacts>> {
    connection
        .prepare_cached(
            "SELECT number, received, fresh, ids, foreign_ids, length(accounts) FROM page WHERE reading = ?1 ORDER BY number",
        )?
        .query_map([reading], |row| {
            let list = |index: usize| -> rusqlite::Result<Vec<String>> {
                let json: String = row.get(index)?;
                let invalid = |error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error));
                serde_json::from_str(&json).map_err(invalid)
            };
            Ok(PageFacts {
                number: row.get(0)?,
                received: row.get(1)?,
                fresh: row.get(2)?,
                ids: list(3)?,
                foreign: list(4)?,
                bytes: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
            })
        })?
        .collect()
}

pub(super) fn keep_page(tx: &mut Tx<'_>, reading: ReadingId, page: &Page) -> rusqlite::Result<()> {
    let json = |list: &[String]| {
        serde_json::to_string(list).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    };
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO page (reading, number, received, fresh, ids, foreign_ids, accounts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            reading.0,
            page.number,
            page.received,
            page.fresh,
            json(&page.ids)?,
            json(&page.foreign)?,
            &page.accounts[..]
        ])?;
    tx.connection
        .prepare_cached("UPDATE reading SET changed = ?2 WHERE id = ?1")?
        .execute([reading.0, tx.now.as_millis()])?;
    Ok(())
}

pub(super) fn replace_accounts(
    tx: &mut Tx<'_>,
    reading: ReadingId,
    number: u32,
    accounts: &[u8],
) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("UPDATE page SET accounts = ?3 WHERE reading = ?1 AND number = ?2")?
        .execute(params![reading.0, number, accounts])?;
    Ok(())
}

pub(super) fn finish(tx: &mut Tx<'_>, reading: ReadingId, found: Found) -> rusqlite::Result<()> {
    let certainty = match found.certainty {
        Certainty::AsAnnounced => 0,
        Certainty::Agreed => 1,
        Certainty::Unsettled => 2,
    };
    tx.connection.prepare_cached("UPDATE reading SET accounts = ?2, certainty = ?3 WHERE id = ?1")?.execute([
        reading.0,
        i64::try_from(found.accounts).unwrap_or(i64::MAX),
        certainty,
    ])?;
    Ok(())
}

/// Notes which reading completed an entry, in place of an earlier one; none where the connection is gone.
pub(super) fn completed(tx: &mut Tx<'_>, seq: i64, reading: Option<i64>) -> rusqlite::Result<()> {
    let earlier: Option<i64> = tx
        .connection
        .prepare_cached("SELECT reading FROM completion WHERE seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()?
        .flatten();
    tx.connection
        .prepare_cached(
            "INSERT INTO completion (seq, reading) VALUES (?1, ?2)
             ON CONFLICT (seq) DO UPDATE SET reading = excluded.reading",
        )?
        .execute(params![seq, reading])?;
    earlier.filter(|earlier| Some(*earlier) != reading).map_or(Ok(()), |earlier| release(tx, earlier))
}

/// Removes the reading that completed an entry, unless another entry uses it too. Call after the entry's own
/// `completion` row is gone.
pub(super) fn release(tx: &mut Tx<'_>, reading: i64) -> rusqlite::Result<()> {
    let removed = tx
        .connection
        .prepare_cached(
            "DELETE FROM reading WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM completion WHERE reading = ?1)",
        )?
        .execute([reading])?;
    if removed > 0 {
        tx.connection.prepare_cached("DELETE FROM page WHERE reading = ?1")?.execute([reading])?;
    }
    Ok(())
}

pub(super) fn pages(connection: &Connection, reading: ReadingId) -> rusqlite::Result<Vec<(u32, u64)>> {
    connection
        .prepare_cached("SELECT number, length(accounts) FROM page WHERE reading = ?1 ORDER BY number")?
        .query_map([reading.0], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
        .collect()
}

pub(super) fn page(connection: &Connection, reading: ReadingId, number: u32) -> rusqlite::Result<Bytes> {
    connection
        .prepare_cached("SELECT accounts FROM page WHERE reading = ?1 AND number = ?2")?
        .query_row(params![reading.0, number], |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
}

pub(super) fn keep_connection(tx: &mut Tx<'_>, reading: ReadingId, json: &[u8]) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("UPDATE reading SET resource = ?2 WHERE id = ?1")?
        .execute(params![reading.0, json])?;
    Ok(())
}

pub(super) fn connection(connection: &Connection, reading: ReadingId) -> rusqlite::Result<Option<Bytes>> {
    let json: Option<Option<Vec<u8>>> = connection
        .prepare_cached("SELECT resource FROM reading WHERE id = ?1")?
        .query_row([reading.0], |row| row.get(0))
        .optional()?;
    Ok(json.flatten().map(Bytes::from))
}
