//! The tables `reading`, `page` and `fetched`.

use super::{
    codes::{Kind, unsigned},
    tx::Tx,
};
use crate::{
    Certainty, Facts, Fetch, Found, Page, PageFacts, Reading, ReadingId, Shortfall,
    seal::{Owner, Place, Seal},
};
use base::clock::Timestamp;
use event::{AccountId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::time::Duration;

/// The one fetch that reads lists so far.
const ACCOUNTS: Kind = Kind::of_fetch(Fetch::Accounts);

/// Finds a reading younger than the entry, or begins one. Fetches of one connection are leased one after the other, and
/// only the one who holds the lease may write: an open reading that is found belongs to nobody else.
pub(super) fn find_or_begin(tx: &mut Tx<'_>, entry: &Facts, resume_within: Duration) -> rusqlite::Result<Reading> {
    let youngest: Option<(i64, i64, i64, Option<Found>)> = tx
        .connection
        .prepare_cached(
            "SELECT id, started, changed, accounts, certainty, unusable FROM reading
             WHERE connection = ?1 AND user IS ?2 AND kind = ?3 AND started >= ?4 ORDER BY started DESC, id DESC LIMIT 1",
        )?
        .query_row(
            params![
                entry.connection.as_str(),
                entry.user.as_ref().map(UserId::as_str),
                ACCOUNTS,
                entry.accepted.as_millis()
            ],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, found(row, 3)?)),
        )
        .optional()?;
    if let Some((id, started, changed, found)) = youngest
        && (found.is_some() || changed >= tx.now.before(resume_within).as_millis())
    {
        let pages = if found.is_some() { Vec::new() } else { page_facts(tx.connection, id)? };
        return Ok(Reading { id: ReadingId(id), started: Timestamp::from_millis(started), found, pages });
    }
    begin(tx, entry)
}

pub(super) fn begin(tx: &mut Tx<'_>, entry: &Facts) -> rusqlite::Result<Reading> {
    let user = entry.user.as_ref().map(UserId::as_str);
    drop_unfinished(tx, entry.connection.as_str(), user)?;
    tx.connection
        .prepare_cached("INSERT INTO reading (connection, user, started, changed, kind) VALUES (?1, ?2, ?3, ?3, ?4)")?
        .execute(params![entry.connection.as_str(), user, tx.now.as_millis(), ACCOUNTS])?;
    let id = ReadingId(tx.connection.last_insert_rowid());
    Ok(Reading { id, started: tx.now, found: None, pages: Vec::new() })
}

/// What a finished reading holds, from its columns `accounts`, `certainty` and `unusable`, which begin at `index`.
pub(super) fn found(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Found>> {
    let accounts = row.get::<_, Option<i64>>(index)?.and_then(|accounts| u64::try_from(accounts).ok());
    let certainty = row.get::<_, Option<Certainty>>(index + 1)?.unwrap_or(Certainty::Unsettled);
    let unusable = unsigned(row, index + 2)?.unwrap_or(0);
    Ok(accounts.map(|accounts| Found { accounts, unusable, certainty }))
}

/// Removes what was read for an entry and not finished.
pub(super) fn drop_open(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let (connection, user): (String, Option<String>) = tx
        .connection
        .prepare_cached("SELECT connection, user FROM entry WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    drop_unfinished(tx, &connection, user.as_deref())
}

/// Removes readings of the connection that were never finished.
pub(super) fn drop_unfinished(tx: &mut Tx<'_>, connection: &str, user: Option<&str>) -> rusqlite::Result<()> {
    let open: Vec<i64> = tx
        .connection
        .prepare_cached(
            "SELECT id FROM reading WHERE connection = ?1 AND user IS ?2 AND kind = ?3 AND accounts IS NULL",
        )?
        .query_map(params![connection, user, ACCOUNTS], |row| row.get(0))?
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
            "SELECT number, ids, foreign_ids, fresh, received, coalesce(size, length(accounts)), unusable FROM page
             WHERE reading = ?1 ORDER BY number",
        )?
        .query_map([reading], |row| {
            Ok(PageFacts {
                number: row.get(0)?,
                ids: ids(row, 1)?,
                foreign: ids(row, 2)?,
                fresh: row.get(3)?,
                received: row.get(4)?,
                bytes: unsigned(row, 5)?.unwrap_or(0),
                unusable: row.get(6)?,
            })
        })?
        .collect()
}

fn ids(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<AccountId>> {
    let ids: Vec<String> = serde_json::from_str(&row.get::<_, String>(index)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))?;
    Ok(ids.into_iter().map(AccountId::new).collect())
}

pub(super) fn keep_page(
    tx: &mut Tx<'_>,
    reading: ReadingId,
    page: &Page,
    seal: &Seal,
    owner: &Owner,
) -> rusqlite::Result<()> {
    let json = |ids: &[AccountId]| {
        let ids: Vec<&str> = ids.iter().map(AccountId::as_str).collect();
        serde_json::to_string(&ids).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    };
    let sealed = seal.seal(owner, Place::Page(reading.0, page.number), &page.accounts)?;
    tx.connection
        .prepare_cached(
            "INSERT OR REPLACE INTO page (reading, number, received, fresh, ids, foreign_ids, accounts, size, unusable, key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            reading.0,
            page.number,
            page.received,
            page.fresh,
            json(&page.ids)?,
            json(&page.foreign)?,
            sealed.bytes,
            size(&page.accounts),
            page.unusable,
            sealed.key,
        ])?;
    tx.connection
        .prepare_cached("UPDATE reading SET changed = ?2 WHERE id = ?1")?
        .execute([reading.0, tx.now.as_millis()])?;
    Ok(())
}

/// Bytes of a plain text, for the column `size`.
pub(super) fn size(plain: &[u8]) -> i64 {
    i64::try_from(plain.len()).unwrap_or(i64::MAX)
}

/// Notes what a reading holds: it is finished.
pub(super) fn finish(tx: &mut Tx<'_>, reading: ReadingId, found: Found) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("UPDATE reading SET accounts = ?2, certainty = ?3, unusable = ?4 WHERE id = ?1")?
        .execute(params![reading.0, signed(found.accounts), found.certainty, signed(found.unusable)])?;
    Ok(())
}

/// A count, which SQLite keeps with a sign.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `shortfall.missing` of a connection that the API did not know.
const UNKNOWN: i64 = -1;

/// What was missing when the connection of a line was last completed.
pub(super) fn shortfall(connection: &Connection, line: i64) -> rusqlite::Result<Option<Shortfall>> {
    let missing: Option<i64> = connection
        .prepare_cached("SELECT missing FROM shortfall WHERE line = ?1")?
        .query_row([line], |row| row.get(0))
        .optional()?;
    Ok(missing.map(|missing| match u64::try_from(missing) {
        Ok(missing) => Shortfall::Accounts(missing),
        Err(_negative) => Shortfall::Connection,
    }))
}

/// Notes what was missing now. `found` is nothing where the connection was unknown. What a hint announces means nothing.
pub(super) fn note_shortfall(tx: &mut Tx<'_>, seq: i64, line: i64, found: Option<Found>) -> rusqlite::Result<()> {
    let (announced, is_hint): (Option<u64>, bool) = tx
        .connection
        .prepare_cached("SELECT account_count, confirm FROM entry WHERE seq = ?1")?
        .query_row([seq], |row| Ok((unsigned(row, 0)?, row.get(1)?)))?;
    let short = match (found, announced.filter(|_| !is_hint)) {
        (None, _) => Some(Shortfall::Connection),
        (Some(found), Some(announced)) => found.shortfall(announced),
        (Some(_), None) => None,
    };
    let Some(short) = short else {
        tx.connection.prepare_cached("DELETE FROM shortfall WHERE line = ?1")?.execute([line])?;
        return Ok(());
    };
    let missing = match short {
        Shortfall::Accounts(missing) => signed(missing),
        Shortfall::Connection => UNKNOWN,
    };
    tx.connection
        .prepare_cached(
            "INSERT INTO shortfall (line, missing) VALUES (?1, ?2)
             ON CONFLICT (line) DO UPDATE SET missing = excluded.missing WHERE missing <> excluded.missing",
        )?
        .execute([line, missing])?;
    Ok(())
}

/// Notes which reading an entry was given, in place of an earlier one; none where the connection is gone.
pub(super) fn note_fetched(tx: &mut Tx<'_>, seq: i64, kind: Kind, reading: Option<ReadingId>) -> rusqlite::Result<()> {
    let reading = reading.map(|reading| reading.0);
    let earlier: Option<i64> = tx
        .connection
        .prepare_cached("SELECT reading FROM fetched WHERE seq = ?1 AND kind = ?2")?
        .query_row(params![seq, kind], |row| row.get(0))
        .optional()?
        .flatten();
    tx.connection
        .prepare_cached(
            "INSERT INTO fetched (seq, kind, reading, snapshot)
             VALUES (?1, ?2, ?3, coalesce((SELECT started FROM reading WHERE id = ?3), ?4))
             ON CONFLICT (seq, kind) DO UPDATE SET reading = excluded.reading, snapshot = excluded.snapshot",
        )?
        .execute(params![seq, kind, reading, tx.now.as_millis()])?;
    earlier.filter(|earlier| Some(*earlier) != reading).map_or(Ok(()), |earlier| release(tx, earlier))
}

/// Forgets what an entry was given.
pub(super) fn forget_fetched(tx: &mut Tx<'_>, seq: i64) -> rusqlite::Result<()> {
    let readings: Vec<Option<i64>> = tx
        .connection
        .prepare_cached("SELECT reading FROM fetched WHERE seq = ?1")?
        .query_map([seq], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    tx.connection.prepare_cached("DELETE FROM fetched WHERE seq = ?1")?.execute([seq])?;
    readings.into_iter().flatten().try_for_each(|reading| release(tx, reading))
}

/// Deletes a reading, whichever entries have it.
pub(super) fn delete(connection: &Connection, reading: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM page WHERE reading = ?1",
        "DELETE FROM fetched WHERE reading = ?1",
        "DELETE FROM reading WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([reading])?;
    }
    Ok(())
}

/// Removes a reading that no entry uses.
fn release(tx: &mut Tx<'_>, reading: i64) -> rusqlite::Result<()> {
    let removed = tx
        .connection
        .prepare_cached("DELETE FROM reading WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM fetched WHERE reading = ?1)")?
        .execute([reading])?;
    if removed > 0 {
        tx.connection.prepare_cached("DELETE FROM page WHERE reading = ?1")?.execute([reading])?;
    }
    Ok(())
}
