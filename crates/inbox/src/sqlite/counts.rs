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
    let mut in_line = connection.prepare_cached(
        "SELECT kind, count(*), count(*) FILTER (WHERE state = 'leased') FROM stage INDEXED BY stage_line
         WHERE state NOT IN ('done', 'parked') GROUP BY kind",
    )?;
    let mut rows = in_line.query([])?;
    while let Some(row) = rows.next()? {
        let numbers = counted.by_kind.entry(row.get(0)?).or_default();
        (numbers.unfinished, numbers.leased) = (row.get(1)?, row.get(2)?);
    }
    let mut parked = connection.prepare_cached(
        "SELECT kind, count(*) FROM stage INDEXED BY stage_parked WHERE state = 'parked' GROUP BY kind",
    )?;
    let mut rows = parked.query([])?;
    while let Some(row) = rows.next()? {
        counted.by_kind.entry(row.get(0)?).or_default().parked = row.get(1)?;
    }
    Ok(counted)
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
                               AND state NOT IN ('done', 'parked') AND seq > first))
             FROM sink WHERE strict = 1 ORDER BY id",
        )?
        .query_map([most], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
        .collect()
}
