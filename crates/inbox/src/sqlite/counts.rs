//! How many stages there are: counted once, and kept from then on by what each transaction changes ([`super::shared`]).

use super::{codes::Kind, shared::Counted, tx::Tx};
use rusqlite::Connection;

/// Counts anew where another process, such as a replay command, has written: its changes do not reach the running figures.
///
/// In the writer's own transactions, because a count beside them would miss, or count twice, what is committed meanwhile.
pub(super) fn recount(tx: &mut Tx<'_>, counted_at: i64) -> rusqlite::Result<()> {
    if data_version(tx.connection)? != counted_at {
        tx.touched.counted(count_all(tx.connection)?);
    }
    Ok(())
}

/// The numbers of stages by kind.
pub(super) fn count_all(connection: &Connection) -> rusqlite::Result<Counted> {
    // The version first: what others write between the two is counted again, and not missed.
    let mut counted = Counted { version: data_version(connection)?, ..Counted::default() };
    let by_kind = &mut counted.by_kind;
    for (kind, count) in count(connection, "INDEXED BY stage_line WHERE ended = 0")? {
        by_kind.entry(kind).or_default().unfinished = count;
    }
    let leased = "INDEXED BY stage_due WHERE state IN ('due', 'leased') AND state = 'leased'";
    for (kind, count) in count(connection, leased)? {
        by_kind.entry(kind).or_default().leased = count;
    }
    for (kind, count) in count(connection, "INDEXED BY stage_parked WHERE state = 'parked'")? {
        by_kind.entry(kind).or_default().parked = count;
    }
    Ok(counted)
}

/// How many stages of each kind an index holds.
fn count(connection: &Connection, which: &str) -> rusqlite::Result<Vec<(Kind, i64)>> {
    connection
        .prepare_cached(&format!("SELECT kind, count(*) FROM stage {which} GROUP BY kind"))?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// By sink that keeps strict order, how many connections have something that waits behind a parked entry; of many parked ones
/// the first `most` are looked at.
pub(super) fn held_lines(connection: &Connection, most: i64) -> rusqlite::Result<Vec<(Kind, u64)>> {
    connection
        .prepare_cached(
            "SELECT id, (SELECT count(*) FROM (
                 SELECT line, min(seq) AS first FROM (
                     SELECT line, seq FROM stage INDEXED BY stage_parked WHERE kind = sink.id AND state = 'parked' LIMIT ?1)
                 GROUP BY line) AS held
                 WHERE EXISTS (SELECT 1 FROM stage INDEXED BY stage_line WHERE kind = sink.id AND stage.line = held.line
                               AND ended = 0 AND seq > first))
             FROM sink WHERE strict = 1 ORDER BY id",
        )?
        .query_map([most], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
        .collect()
}
