//! Tables of the SQLite inbox and the steps from each version to the next.

use rusqlite::{Connection, TransactionBehavior};

/// The first step makes version 1 of an empty file, the second version 2 of that, and so on. Steps are never edited once
/// released: add one.
const MIGRATIONS: [&str; 1] = [include_str!("v1.sql")];

/// The version that this build writes: one more than the last step's number.
pub(super) const VERSION: i64 = 1;

/// The version of a store; 0 for an empty file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings a store of `from` to [`VERSION`], each step in a transaction of its own: killed half-way, it goes on at the
/// same step.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    for (step, sql) in (1..=VERSION).zip(MIGRATIONS).filter(|(step, _)| *step > from) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", step)?;
        tx.commit()?;
    }
    Ok(())
}
