//! An open transaction, as operations on the tables see it.

use super::shared::Touched;
use crate::Position;
use base::clock::{self, Timestamp};
use rusqlite::Connection;

/// An open transaction.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    /// When it began.
    pub(super) now: Timestamp,
    /// What it changes, to be told to the callers after its commit.
    pub(super) touched: &'a mut Touched,
    /// How far the record of accepted events reaches, once something was added.
    position: Option<i64>,
}

impl Tx<'_> {
    /// The position of another accepted event.
    pub(super) fn next_position(&mut self) -> rusqlite::Result<Position> {
        let next = Position(self.reached()?.0 + 1);
        self.reach(next);
        Ok(next)
    }

    /// How far the record of accepted events is in the store.
    pub(super) fn reached(&self) -> rusqlite::Result<Position> {
        self.position.map_or_else(|| reached(self.connection), |position| Ok(Position(position.unsigned_abs())))
    }

    /// Everything up to this position is in the store, with the commit of this transaction.
    pub(super) fn reach(&mut self, position: Position) {
        self.position = Some(position.0.cast_signed());
    }
}

/// How far the record of accepted events is in the store.
pub(super) fn reached(connection: &Connection) -> rusqlite::Result<Position> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = 'position'")?
        .query_row([], |row| row.get(0).map(|position: i64| Position(position.unsigned_abs())))
}

/// Runs operations in one transaction and commits it. After an error the transaction may still be open.
pub(super) fn run<T>(
    connection: &Connection,
    touched: &mut Touched,
    operations: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut tx = Tx { connection, now: clock::now(), touched, position: None };
    let result = operations(&mut tx)?;
    if let Some(position) = tx.position {
        connection.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'position'")?.execute([position])?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(result)
}

/// Runs operations on a store that was just opened. Nobody waits to be told what they touch.
pub(super) fn run_at_once<T>(
    connection: &Connection,
    operations: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    run(connection, &mut Touched::default(), operations)
}
