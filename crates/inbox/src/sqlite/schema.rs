//! Tables of the SQLite inbox, and what is made with them.

use crate::{Identity, Keys};
use rusqlite::{Connection, OptionalExtension, params};

/// The tables of version [`BASE`]; what came later is in [`STEPS`].
pub(super) const TABLES: &str = include_str!("tables.sql");
/// The version that [`TABLES`] makes.
pub(super) const BASE: i64 = 3;
/// A file of version 1 that is being moved to [`BASE`]: it has the tables of both. A program that knows only version 1
/// must not take it for its own.
pub(super) const MOVING: i64 = 2;

/// What each later version adds, in order. No step needs another.
pub(super) const STEPS: [(i64, &str); 14] = [
    // Of the requests that are there nobody knows whether their sender was known.
    (4, "ALTER TABLE refused ADD COLUMN known INTEGER NOT NULL DEFAULT 0;"),
    // line.short: how many announced accounts were missing when the connection was last completed; -1: the connection was
    // unknown. unusable: items of a list that are no accounts.
    (
        5,
        "ALTER TABLE line ADD COLUMN short INTEGER;
         ALTER TABLE reading ADD COLUMN unusable INTEGER NOT NULL DEFAULT 0;
         ALTER TABLE page ADD COLUMN unusable INTEGER NOT NULL DEFAULT 0;",
    ),
    // sink.paused: since when an operator has it paused. stage.resumed: when it last went back in line by itself.
    // delivered: for which time the newest accounts hold that a sink was given of a connection (line) and channel ('': none).
    // act: the audit trail.
    (
        6,
        "ALTER TABLE sink ADD COLUMN paused INTEGER;
         ALTER TABLE stage ADD COLUMN resumed INTEGER;
         CREATE INDEX stage_resumable ON stage (kind, seq) WHERE state = 'parked' AND cause IN ('outage', 'gave_up');
         CREATE TABLE delivered (
             kind    INTEGER NOT NULL,
             line    INTEGER NOT NULL,
             channel TEXT    NOT NULL,
             as_of   INTEGER NOT NULL,
             PRIMARY KEY (kind, line, channel)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE act (
             number  INTEGER PRIMARY KEY AUTOINCREMENT,
             at      INTEGER NOT NULL,
             who     TEXT    NOT NULL,
             what    TEXT    NOT NULL,
             which   TEXT    NOT NULL,
             entries INTEGER
         ) STRICT;",
    ),
    // The number of an entry is its place in the line of its connection, as the one writer gives numbers away in the order of
    // its commits. shortfall: what was `line.short`, of the connections that have one.
    (
        7,
        "CREATE TABLE shortfall (
             line    INTEGER PRIMARY KEY,
             missing INTEGER NOT NULL
         ) STRICT;
         INSERT INTO shortfall (line, missing) SELECT key, short FROM line WHERE short IS NOT NULL;
         DROP TABLE line;
         DROP INDEX stage_line;
         ALTER TABLE stage DROP COLUMN place;
         CREATE INDEX stage_line ON stage (kind, line, seq) WHERE state IN ('queued', 'due', 'leased');",
    ),
    // entry_accepted: which entries were accepted in a span of time. failure: the last failed attempt of each kind of stage.
    (
        8,
        "CREATE INDEX entry_accepted ON entry (accepted);
         CREATE TABLE failure (
             kind   INTEGER PRIMARY KEY,
             at     INTEGER NOT NULL,
             seq    INTEGER NOT NULL,
             reason TEXT
         ) STRICT;",
    ),
    // key: the id of the data key that seals the body (entry), the accounts (page), the resource (reading) or the start
    // (refused); NULL: it is written as it is. A sealed entry's digest is one under that key.
    (
        9,
        "ALTER TABLE entry ADD COLUMN key INTEGER;
         ALTER TABLE page ADD COLUMN key INTEGER;
         ALTER TABLE reading ADD COLUMN key INTEGER;
         ALTER TABLE refused ADD COLUMN key INTEGER;",
    ),
    // minute: what happened, for charts. took: milliseconds from acceptance to delivery, over all deliveries of the minute.
    (
        10,
        "CREATE TABLE minute (
             at        INTEGER NOT NULL,
             receiver  TEXT    NOT NULL,
             received  INTEGER NOT NULL,
             delivered INTEGER NOT NULL,
             parked    INTEGER NOT NULL,
             took      INTEGER NOT NULL,
             PRIMARY KEY (at, receiver)
         ) STRICT, WITHOUT ROWID;",
    ),
    // stage_line holds what its condition asks for, so that stages are counted, and the first of a line is found, in it alone.
    (
        11,
        "DROP INDEX stage_line;
         CREATE INDEX stage_line ON stage (kind, line, seq, state) WHERE state IN ('queued', 'due', 'leased');",
    ),
    // sink.strict: 1: a parked stage holds up later ones of its line, which stage_parked finds.
    (
        12,
        "ALTER TABLE sink ADD COLUMN strict INTEGER NOT NULL DEFAULT 0;
         DROP INDEX stage_parked;
         CREATE INDEX stage_parked ON stage (kind, line, seq) WHERE state = 'parked';",
    ),
    // receiver: who takes events into this file. obstacle: why it would take none; NULL: it is ready.
    (
        13,
        "CREATE TABLE receiver (
             id       TEXT    PRIMARY KEY,
             name     TEXT    NOT NULL,
             version  TEXT    NOT NULL,
             since    INTEGER NOT NULL,
             seen     INTEGER NOT NULL,
             obstacle TEXT
         ) STRICT, WITHOUT ROWID;",
    ),
    // merged: with which others an entry leaves the line of a sink that merges events; those of one delivery have the same first,
    // which is the entry that was first of them.
    (
        14,
        "CREATE TABLE merged (
             seq   INTEGER NOT NULL,
             kind  INTEGER NOT NULL,
             first INTEGER NOT NULL,
             PRIMARY KEY (seq, kind)
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX merged_first ON merged (kind, first);",
    ),
    // stage_line: SQLite builds a table of the three states of its earlier condition, and throws it away, twice for each change of
    // a stage. Two states are compared one by one.
    (
        15,
        "DROP INDEX stage_line;
         CREATE INDEX stage_line ON stage (kind, line, seq, state) WHERE state NOT IN ('done', 'parked');",
    ),
    // stage.ended: 1: done or parked. It is not written while a stage stands in its line: a lease would write the index of lines
    // anew otherwise, a page for each line. Leases are counted in stage_due, which they change in any case.
    (
        16,
        "ALTER TABLE stage ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
         UPDATE stage SET ended = 1 WHERE state IN ('done', 'parked');
         DROP INDEX stage_line;
         CREATE INDEX stage_line ON stage (kind, line, seq) WHERE ended = 0;
         DROP INDEX stage_due;
         CREATE INDEX stage_due ON stage (kind, due, seq, state) WHERE state IN ('due', 'leased');",
    ),
    // delivered.seq: the entry whose event lists these accounts; 0: they were read, or it was not noted.
    (17, "ALTER TABLE delivered ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;"),
];
/// The version that this build writes: that of the last step.
pub(crate) const VERSION: i64 = 17;

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

/// Which inbox a store is.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<Identity> {
    bytes(connection, "identity").map(Identity)
}

/// What [`make_keys`] made. The key of hashes is elsewhere while the store is sealed, and is handed in then.
pub(super) fn keys(connection: &Connection, dedup: Option<[u8; 16]>) -> rusqlite::Result<Keys> {
    Ok(Keys {
        identity: identity(connection)?,
        dedup: dedup.map_or_else(|| bytes(connection, "dedup"), Ok)?,
        fingerprints: bytes(connection, "fingerprints")?,
    })
}

fn bytes<const N: usize>(connection: &Connection, name: &str) -> rusqlite::Result<[u8; N]> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

/// A number that the store remembers of itself.
pub(super) fn number(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

/// Remembers a number, or forgets it.
pub(super) fn set_number(connection: &Connection, name: &str, value: Option<i64>) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            )?
            .execute(params![name, value])?,
        None => connection.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}
