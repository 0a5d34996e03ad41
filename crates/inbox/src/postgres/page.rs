//! One page of a list, in the order of acceptance: as on the file.

use super::{
    codes,
    select::{conditions, is_narrow},
    store::Core,
    tx::{self, Statement, Trouble, Value, statement},
};
use crate::{Filter, Place, Seq};
use tokio_postgres::Row;

/// Entries of a page, and where the next one goes on.
pub(super) async fn page(
    core: &Core,
    filter: &Filter,
    behind: Option<Place>,
    (looked, limit): (usize, usize),
) -> Result<(Vec<i64>, Option<Place>), Trouble> {
    let [first, last] = core.clock.span(filter.accepted);
    let from = behind.unwrap_or(Place { at: i64::MAX, seq: Seq(i64::MAX) });
    let is_narrow = is_narrow(core, filter).await?;
    let end = if is_narrow { None } else { nth(core, [first, last.min(from.at)], from, looked).await? };
    let to = end.unwrap_or(Place { at: i64::MIN, seq: Seq(i64::MIN) });
    let mut asked = conditions(core, filter).await?;
    let ends = [first.max(to.at), last.min(from.at), from.at, from.seq.0, to.at, to.seq.0];
    asked.add(if is_narrow { BY_NUMBER } else { BY_TIME }, ends.map(|end| Box::new(end) as Value).into());
    // The sum keeps the index of times out of it.
    let nothing = if is_narrow { " + 0" } else { "" };
    let sql = format!(
        "SELECT entry.accepted, entry.seq FROM entry {}
         ORDER BY entry.accepted{nothing} DESC, entry.seq{nothing} DESC LIMIT {limit}",
        asked.sql
    );
    let rows = tx::query(&core.pool, Statement { sql: sql.into(), values: asked.values }).await?;
    let found = rows.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let next = if found.len() == limit { found.last().copied() } else { end };
    Ok((found.into_iter().map(|place| place.seq.0).collect(), next))
}

/// With the index of times.
const BY_TIME: &str =
    "entry.accepted BETWEEN ? AND ? AND (entry.accepted, entry.seq) < (?, ?) AND (entry.accepted, entry.seq) >= (?, ?)";
/// Without it: there are few, and they are found by another one.
const BY_NUMBER: &str = "entry.accepted + 0 BETWEEN ? AND ? AND (entry.accepted + 0, entry.seq) < (?, ?)
                         AND (entry.accepted + 0, entry.seq) >= (?, ?)";

/// The place of the entry that is so many behind another; `None`: there are fewer.
async fn nth(core: &Core, [first, last]: [i64; 2], from: Place, count: usize) -> Result<Option<Place>, Trouble> {
    let sql = "SELECT accepted, seq FROM entry WHERE accepted BETWEEN $1 AND $2 AND (accepted, seq) < ($3, $4)
               ORDER BY accepted DESC, seq DESC LIMIT 1 OFFSET $5";
    let offset = codes::signed(count.saturating_sub(1));
    let rows = tx::query(&core.pool, statement!(sql, first, last, from.at, from.seq.0, offset)).await?;
    rows.first().map(place).transpose()
}

fn place(row: &Row) -> Result<Place, Trouble> {
    Ok(Place { at: row.try_get(0)?, seq: Seq(row.try_get(1)?) })
}
