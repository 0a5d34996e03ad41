//! Tables of the SQLite inbox, and what is made with them.

use crate::{Identity, Keys};
use rusqlite::Connection;

/// The tables of [`VERSION`].
pub(super) const TABLES: &str = include_str!("tables.sql");

/// The version that this build writes.
pub(super) const VERSION: i64 = 4;
/// The version before, which did not say whose the refused requests were.
pub(super) const WITHOUT_KNOWN: i64 = 3;
/// A file of version 1 that is being moved to [`VERSION`]: it has the tables of both. A program that knows only version 1
/// must not take it for its own.
pub(super) const MOVING: i64 = 2;

/// The version of a store; 0 for an empty file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Gives a store its identity and its keys, unless it has them.
pub(super) fn make_keys(connection: &Connection) -> rusqlite::Result<()> {
    for (name, length) in [("identity", 16), ("dedup", 16), ("fingerprints", 32)] {
        connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES (?1, randomblob(?2))", (name, length))?;
    }
    connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('position', 0)", [])?;
    Ok(())
}

/// What [`make_keys`] made.
pub(super) fn keys(connection: &Connection) -> rusqlite::Result<Keys> {
    Ok(Keys {
        identity: Identity(bytes(connection, "identity")?),
        dedup: bytes(connection, "dedup")?,
        fingerprints: bytes(connection, "fingerprints")?,
    })
}

fn bytes<const N: usize>(connection: &Connection, name: &str) -> rusqlite::Result<[u8; N]> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}
