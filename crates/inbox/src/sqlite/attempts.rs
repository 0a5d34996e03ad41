//! The table `attempt`: what became of earlier attempts at a stage, so that a replay wipes out no history; and the table
//! `failure`: the last one of each kind, so that nobody has to look for it among a million.

use super::{codes::Kind, tx::Tx};
use crate::rules::{self, Progress};
use rusqlite::params;

/// Notes how the last attempt at a stage ended; forgets the oldest ones beyond [`rules::ATTEMPTS_KEPT`].
pub(super) fn remember(tx: &mut Tx<'_>, seq: i64, kind: Kind, progress: &Progress) -> rusqlite::Result<()> {
    let last: Option<i64> = tx
        .connection
        .prepare_cached("SELECT max(number) FROM attempt WHERE seq = ?1 AND kind = ?2")?
        .query_row(params![seq, kind], |row| row.get(0))?;
    let number = last.unwrap_or(0) + 1;
    tx.connection
        .prepare_cached("INSERT INTO attempt (seq, kind, number, at, state, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![seq, kind, number, progress.changed.as_millis(), progress.standing, progress.reason])?;
    if number > i64::from(rules::ATTEMPTS_KEPT) {
        tx.connection
            .prepare_cached("DELETE FROM attempt WHERE seq = ?1 AND kind = ?2 AND number <= ?3")?
            .execute(params![seq, kind, number - i64::from(rules::ATTEMPTS_KEPT)])?;
    }
    Ok(())
}

/// Notes an attempt that failed.
pub(super) fn failed(tx: &mut Tx<'_>, seq: i64, kind: Kind, progress: &Progress) -> rusqlite::Result<()> {
    tx.connection
        .prepare_cached("INSERT OR REPLACE INTO failure (kind, at, seq, reason) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![kind, progress.changed.as_millis(), seq, progress.reason])?;
    remember(tx, seq, kind, progress)
}
