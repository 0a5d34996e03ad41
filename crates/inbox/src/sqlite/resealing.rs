//! Rows that were written before the seal are sealed, and back: batch by batch, while everything else goes on.

use super::{attach, readings, schema, store::Sqlite, tx::Tx};
use crate::{
    Error, Resealed,
    seal::{Owner, Round, Row, Seal, Sealed, To},
};
use base::{clock::Timestamp, sync::lock};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;

impl Sqlite {
    /// Writes some rows anew. The round begins where the last call ended.
    pub(super) async fn reseal(&self, to: To, limit: usize) -> Result<Resealed, Error> {
        if !self.seal.is_on() {
            return Ok(Resealed { changed: 0, is_done: true });
        }
        if to == To::Sealed && self.read(|connection| schema::number(connection, attach::PLAIN)).await?.is_none() {
            return Ok(Resealed { changed: 0, is_done: true });
        }
        let mut round = *lock(&self.round);
        let found = self.read(move |connection| find(connection, to, round, limit)).await?;
        let seal = Arc::clone(&self.seal);
        let is_done = found.is_empty();
        let (changed, last) = (found.len() as u64, found.last().copied());
        self.write(move |tx| {
            if is_done {
                return match to {
                    To::Sealed => schema::set_number(tx.connection, attach::PLAIN, None),
                    To::Plain => attach::end(tx.connection, &seal).map_err(rusqlite::Error::from),
                };
            }
            found.iter().try_for_each(|row| rewrite(tx, &seal, to, *row))
        })
        .await?;
        if let Some(row) = last {
            round.note(row);
        }
        *lock(&self.round) = if is_done { Round::default() } else { round };
        Ok(Resealed { changed, is_done })
    }
}

/// The next rows of one table.
fn find(connection: &Connection, to: To, round: Round, limit: usize) -> rusqlite::Result<Vec<Row>> {
    let is = to.key_is();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let numbers = |sql: String, after: i64, row: fn(i64) -> Row| -> rusqlite::Result<Vec<Row>> {
        connection.prepare_cached(&sql)?.query_map([after, limit], |found| found.get(0).map(row))?.collect()
    };
    let entries = format!("SELECT seq FROM entry WHERE seq > ?1 AND key {is} ORDER BY seq LIMIT ?2");
    let found = numbers(entries, round.entry, Row::Entry)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let pages = format!(
        "SELECT reading, number FROM page WHERE (reading, number) > (?1, ?2) AND key {is} ORDER BY reading, number LIMIT ?3"
    );
    let found: Vec<Row> = connection
        .prepare_cached(&pages)?
        .query_map(params![round.page.0, round.page.1, limit], |row| Ok(Row::Page(row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if !found.is_empty() {
        return Ok(found);
    }
    let resources =
        format!("SELECT id FROM reading WHERE id > ?1 AND resource IS NOT NULL AND key {is} ORDER BY id LIMIT ?2");
    let found = numbers(resources, round.resource, Row::Resource)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let refused = format!(
        "SELECT number FROM refused WHERE number > ?1 AND start IS NOT NULL AND key {is} ORDER BY number LIMIT ?2"
    );
    numbers(refused, round.refused, Row::Refused)
}

/// Whose a row is, the id of its key, and what it holds.
type Loaded = (Owner, Option<i64>, Vec<u8>);

/// Loads a row; `None`: it has gone.
fn load(tx: &Tx<'_>, row: Row) -> rusqlite::Result<Option<Loaded>> {
    let of_connection = |row: &rusqlite::Row<'_>| {
        let owner = Owner::new(&row.get::<_, String>(2)?, row.get::<_, Option<String>>(3)?.as_deref());
        Ok((owner, row.get(0)?, row.get(1)?))
    };
    let of_day =
        |row: &rusqlite::Row<'_>| Ok((Owner::day(Timestamp::from_millis(row.get(2)?)), row.get(0)?, row.get(1)?));
    let connection = tx.connection;
    match row {
        Row::Entry(seq) => connection
            .prepare_cached("SELECT key, bytes, connection, user FROM entry JOIN body USING (seq) WHERE seq = ?1")?
            .query_row([seq], of_connection),
        Row::Page(reading, number) => connection
            .prepare_cached(
                "SELECT page.key, page.accounts, connection, user FROM page JOIN reading ON reading.id = page.reading
                 WHERE reading = ?1 AND number = ?2",
            )?
            .query_row(params![reading, number], of_connection),
        Row::Resource(reading) => connection
            .prepare_cached(
                "SELECT key, resource, connection, user FROM reading WHERE id = ?1 AND resource IS NOT NULL",
            )?
            .query_row([reading], of_connection),
        Row::Refused(number) => connection
            .prepare_cached("SELECT key, start, at FROM refused WHERE number = ?1 AND start IS NOT NULL")?
            .query_row([number], of_day),
    }
    .optional()
}

fn rewrite(tx: &Tx<'_>, seal: &Seal, to: To, row: Row) -> rusqlite::Result<()> {
    let Some((owner, key, stored)) = load(tx, row)? else { return Ok(()) };
    // Another call did it, or it was written anew meanwhile.
    if key.is_some() == (to == To::Sealed) {
        return Ok(());
    }
    let place = row.place();
    let plain = seal.open(key, &owner, place, stored)?;
    let written = match to {
        To::Sealed => seal.seal(&owner, place, &plain)?,
        To::Plain => Sealed::plain(&plain),
    };
    let connection = tx.connection;
    match row {
        Row::Entry(seq) => {
            let known: Option<[u8; 32]> = connection
                .prepare_cached("SELECT digest FROM entry WHERE seq = ?1")?
                .query_row([seq], |row| row.get(0))
                .optional()?;
            // What is damaged stays so: no text has this digest.
            let is_whole = known == Some(seal.digest(key, &plain)?);
            let digest = if is_whole { seal.digest(written.key, &plain)? } else { [0; 32] };
            connection.prepare_cached("UPDATE entry SET key = ?2, digest = ?3 WHERE seq = ?1")?.execute(params![
                seq,
                written.key,
                digest
            ])?;
            connection
                .prepare_cached("UPDATE body SET bytes = ?2 WHERE seq = ?1")?
                .execute(params![seq, written.bytes])?;
        }
        Row::Page(reading, number) => {
            connection
                .prepare_cached(
                    "UPDATE page SET key = ?3, accounts = ?4, size = ?5 WHERE reading = ?1 AND number = ?2",
                )?
                .execute(params![reading, number, written.key, written.bytes, readings::size(&plain)])?;
        }
        Row::Resource(reading) => {
            connection.prepare_cached("UPDATE reading SET key = ?2, resource = ?3 WHERE id = ?1")?.execute(params![
                reading,
                written.key,
                written.bytes
            ])?;
        }
        Row::Refused(number) => {
            connection
                .prepare_cached("UPDATE refused SET key = ?2, start = ?3 WHERE number = ?1")?
                .execute(params![number, written.key, written.bytes])?;
        }
    }
    Ok(())
}
