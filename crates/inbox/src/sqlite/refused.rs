//! Refused requests: a short list of the newest, for people.
//!
//! Anybody can have requests refused, as many as they like. So a row of a known sender, which may be an event that never
//! comes again, makes room only for another of a known sender.

use super::{codes::unsigned, tx::Tx};
use crate::{
    Refused, RefusedView, Span,
    seal::{Owner, Place, Seal},
};
use base::clock::Timestamp;
use rusqlite::{Connection, params};

/// Adds to the list and cuts it to `most`: first goes the oldest of a sender that is not known.
pub(super) fn keep(tx: &mut Tx<'_>, refused: &[Refused], most: u64, seal: &Seal) -> rusqlite::Result<()> {
    let mut insert = tx.connection.prepare_cached(
        "INSERT INTO refused (at, sender, reason, status, size, known) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for one in refused {
        insert.execute(params![
            one.at.as_millis(),
            one.sender,
            one.reason,
            one.status,
            one.size.and_then(|size| i64::try_from(size).ok()),
            one.is_known,
        ])?;
        // A sealed start is bound to its row, so the row comes first.
        let number = tx.connection.last_insert_rowid();
        if let Some(start) = &one.start {
            let sealed = seal.seal(&Owner::day(one.at), Place::Refused(number), start)?;
            tx.connection
                .prepare_cached("UPDATE refused SET key = ?2, start = ?3 WHERE number = ?1")?
                .execute(params![number, sealed.key, sealed.bytes])?;
        }
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
pub(super) fn list(
    connection: &Connection,
    seal: &Seal,
    span: Span,
    limit: usize,
) -> rusqlite::Result<Vec<RefusedView>> {
    let [from, to] = span.bounds();
    connection
        .prepare_cached(
            "SELECT number, at, sender, reason, status, size, start, key FROM refused WHERE at BETWEEN ?1 AND ?2
             ORDER BY number DESC LIMIT ?3",
        )?
        .query_map([from, to, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            let (number, at) = (row.get(0)?, Timestamp::from_millis(row.get(1)?));
            let (start, key): (Option<Vec<u8>>, Option<i64>) = (row.get(6)?, row.get(7)?);
            // A list is made without a key too; it has no starts then.
            let may_open = key.is_none() || seal.is_on();
            let open = |start| seal.open(key, &Owner::day(at), Place::Refused(number), start);
            Ok(RefusedView {
                number,
                at,
                sender: row.get(2)?,
                reason: row.get(3)?,
                status: row.get(4)?,
                bytes: unsigned(row, 5)?,
                start: start.filter(|_| may_open).map(open).transpose()?,
            })
        })?
        .collect()
}

/// Deletes those from before `cutoff`: the start of a body may hold personal data.
pub(super) fn expire(tx: &mut Tx<'_>, cutoff: Timestamp) -> rusqlite::Result<()> {
    tx.connection.prepare_cached("DELETE FROM refused WHERE at < ?1")?.execute([cutoff.as_millis()])?;
    Ok(())
}
