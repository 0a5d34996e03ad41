//! Whether the pages of a SQLite file are as SQLite wrote them.

use rusqlite::{Connection, Error, ffi};

/// Reads every page.
///
/// # Errors
/// `SQLITE_CORRUPT`: one is damaged.
pub(crate) fn check(connection: &Connection) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(verdict)))
}
