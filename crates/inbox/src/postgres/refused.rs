//! Refused requests: a short list of the newest, for people.
//!
//! Anybody can have requests refused, as many as they like. So a row of a known sender, which may be an event that never
//! comes again, makes room only for another of a known sender.

use super::{
    codes,
    connect::Pool,
    shared::Touched,
    store::Core,
    tx::{self, Trouble, Tx, statement},
    vault,
};
use crate::{Refused, RefusedView};

/// Adds to the list and cuts it: first goes the oldest of a sender that is not known.
pub(super) async fn keep(core: &Core, refused: &[Refused]) -> Result<(), Trouble> {
    let at = |one: &Refused| core.clock.server(one.at);
    let insert = statement!(
        "INSERT INTO refused (at, sender, reason, status, size, known, start)
         SELECT at, sender, reason, status, size, known, start
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::boolean[], $7::bytea[])
              WITH ORDINALITY AS n (at, sender, reason, status, size, known, start, ordinality) ORDER BY ordinality",
        refused.iter().map(|one| at(one).as_millis()).collect::<Vec<_>>(),
        refused.iter().map(|one| codes::text(&one.sender)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.reason).collect::<Vec<_>>(),
        refused.iter().map(|one| i64::from(one.status)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.size.map(codes::signed)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.is_known).collect::<Vec<_>>(),
        refused.iter().map(|one| one.start.as_ref().map(|start| start.to_vec())).collect::<Vec<_>>(),
    );
    // What another receiver adds at the same time is cut by the next who adds.
    let cut = statement!(
        "DELETE FROM refused WHERE number IN (
             SELECT number FROM refused ORDER BY known, number
             LIMIT greatest(0, (SELECT count(*) FROM refused) - $1))",
        codes::signed(core.refused),
    );
    let (tx, _) = Tx::begin_with(&core.pool, &core.clock, insert).await?;
    core.commit(tx, &[cut], Touched::default()).await.map(drop)
}

/// Those of a span of time, the newest first.
pub(super) async fn list(core: &Core, [from, to]: [i64; 2], limit: usize) -> Result<Vec<RefusedView>, Trouble> {
    let rows = find(&core.pool, [from, to], limit).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (number, at) = (row.try_get("number")?, codes::time(&row, "at")?.unwrap_or_default());
        let (start, key): (Option<Vec<u8>>, Option<i64>) = (row.try_get("start")?, row.try_get("key")?);
        found.push(RefusedView {
            number,
            at: core.clock.local(at),
            sender: codes::read(&row, "sender")?,
            reason: codes::read(&row, "reason")?,
            status: u16::try_from(row.try_get::<_, i64>("status")?).unwrap_or(0),
            bytes: codes::unsigned(&row, "size")?,
            start: start.map(|start| vault::open(key, start)).transpose()?,
        });
    }
    Ok(found)
}

async fn find(pool: &Pool, [from, to]: [i64; 2], limit: usize) -> Result<Vec<tokio_postgres::Row>, Trouble> {
    let sql = "SELECT * FROM refused WHERE at BETWEEN $1 AND $2 ORDER BY number DESC LIMIT $3";
    tx::query(pool, statement!(sql, from, to, codes::signed(limit))).await
}
