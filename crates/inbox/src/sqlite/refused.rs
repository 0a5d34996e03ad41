//! Refused requests: a short list of the newest, for people.
//!
//! Anybody can have requests refused, as many as they like. So a row of a known sender, which may be an event that never
//! comes again, makes room only for another of a known sender.

use super::{codes::unsigned, tx::Tx};
use crate::{Refused, RefusedView, Span, seal};
use base::clock::Timestamp;
use rusqlite::{Connection, params};

/// Adds to the list and cuts it to `most`: first goes the oldest of a sender that is not known.
pub(super) fn keep(tx: &mut Tx<'_>, refused: &[Refused], most: u64) -> rusqlite::Result<()> {
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO refused (at, sender, reason, status, size, start, known) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for one in refused {
        insert.execute(params![
            one.at.as_millis(),
            one.sender,
            one.reason,
            one.status,
            one.size.and_then(|size| i64::try_from(size).ok()),
            one.start.as_deref().map(seal::seal),
            one.is_known,
        ])?;
    }
    tx.connection
        .prepare_cached(
            "DELETE FROM refused WHERE number IN (
                 SELECT number FROM refused ORDER BY known, number LIMIT max(0, (SELECT count(*) FROM refused) - ?1))",
        )?
        .execute([i64::try_from(most).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// The newest first.
pub(super) fn list(connection: &Connection, span: Span, limit: usize) -> rusqlite::Result<Vec<RefusedView>> {
    let [from, to] = span.bounds();
    connection
        .prepare_cached(
            "SELECT number, at, sender, reason, status, size, start FROM refused WHERE at BETWEEN ?1 AND ?2
             ORDER BY number DESC LIMIT ?3",
        )?
        .query_map([from, to, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(RefusedView {
                number: row.get(0)?,
                at: Timestamp::from_millis(row.get(1)?),
                sender: row.get(2)?,
                reason: row.get(3)?,
                status: row.get(4)?,
                bytes: unsigned(row, 5)?,
                start: row.get::<_, Option<Vec<u8>>>(6)?.map(seal::open),
            })
        })?
        .collect()
}

/// Deletes those from before `cutoff`: the start of a body may hold personal data.
pub(super) fn expire(tx: &mut Tx<'_>, cutoff: Timestamp) -> rusqlite::Result<()> {
    tx.connection.prepare_cached("DELETE FROM refused WHERE at < ?1")?.execute([cutoff.as_millis()])?;
    Ok(())
}
