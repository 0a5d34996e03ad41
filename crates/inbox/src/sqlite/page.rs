//! One page of a list, in the order of acceptance.
//!
//! The index of times gives the order, so a page begins where it is wanted and ends when it is full. What a filter finds by no index
//! is looked for among so many entries and not further.

use super::select::{Conditions, conditions, is_narrow};
use crate::{Filter, Keys, Place, Seq};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};

/// Entries of a page, and where the next one goes on.
pub(super) fn page(
    connection: &Connection,
    keys: &Keys,
    filter: &Filter,
    behind: Option<Place>,
    (looked, limit): (usize, usize),
) -> rusqlite::Result<(Vec<i64>, Option<Place>)> {
    let [first, last] = filter.accepted.bounds();
    let from = behind.unwrap_or(Place { at: i64::MAX, seq: Seq(i64::MAX) });
    let is_narrow = is_narrow(connection, filter)?;
    let end = if is_narrow { None } else { nth(connection, [first, last.min(from.at)], from, looked)? };
    let to = end.unwrap_or(Place { at: i64::MIN, seq: Seq(i64::MIN) });
    let mut asked = conditions(connection, keys, filter)?;
    let ends = [first.max(to.at), last.min(from.at), from.at, from.seq.0, to.at, to.seq.0];
    asked.add(if is_narrow { BY_NUMBER } else { BY_TIME }, ends.map(|end| Box::new(end) as Box<dyn ToSql>));
    let sql = query(&asked, is_narrow, limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let found: Vec<Place> = statement.query_map(params_from_iter(asked.values()), place)?.collect::<Result<_, _>>()?;
    let next = if found.len() == limit { found.last().copied() } else { end };
    Ok((found.into_iter().map(|place| place.seq.0).collect(), next))
}

/// With the index of times.
const BY_TIME: &str =
    "entry.accepted BETWEEN ? AND ? AND (entry.accepted, entry.seq) < (?, ?) AND (entry.accepted, entry.seq) >= (?, ?)";
/// The signs keep the index of times out of it: there are few, and they are found by another one.
const BY_NUMBER: &str = "+entry.accepted BETWEEN ? AND ? AND (+entry.accepted, entry.seq) < (?, ?) AND (+entry.accepted, entry.seq) >= (?, ?)";

fn query(asked: &Conditions, is_narrow: bool, limit: usize) -> String {
    let (by, sign) = if is_narrow { ("", "+") } else { ("INDEXED BY entry_accepted", "") };
    let condition = asked.sql();
    format!(
        "SELECT entry.accepted, entry.seq FROM entry {by} {condition}
         ORDER BY {sign}entry.accepted DESC, {sign}entry.seq DESC LIMIT {limit}"
    )
}

/// The place of the entry that is so many behind another; `None`: there are fewer.
fn nth(connection: &Connection, [first, last]: [i64; 2], from: Place, count: usize) -> rusqlite::Result<Option<Place>> {
    let offset = i64::try_from(count.saturating_sub(1)).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT accepted, seq FROM entry INDEXED BY entry_accepted
             WHERE accepted BETWEEN ?1 AND ?2 AND (accepted, seq) < (?3, ?4)
             ORDER BY accepted DESC, seq DESC LIMIT 1 OFFSET ?5",
        )?
        .query_row(params![first, last, from.at, from.seq.0, offset], place)
        .optional()
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place { at: row.get(0)?, seq: Seq(row.get(1)?) })
}
