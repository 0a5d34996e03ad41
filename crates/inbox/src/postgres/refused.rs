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
};
use crate::{
    Refused, RefusedView,
    seal::{Owner, Place},
};

/// Adds to the list and cuts it: first goes the oldest of a sender that is not known.
pub(super) async fn keep(core: &Core, refused: &[Refused]) -> Result<(), Trouble> {
    let at = |one: &Refused| core.clock.server(one.at);
    let with_start = refused.iter().filter(|one| one.start.is_some());
    let sealing = core.vault.sealing(with_start.map(|one| Owner::day(at(one)))).await?;
    // A sealed start is bound to its row, so the numbers come first.
    let numbers = statement!(
        "SELECT nextval(pg_get_serial_sequence('refused', 'number')) FROM generate_series(1, $1::bigint)",
        codes::signed(refused.len())
    );
    let (tx, rows) = Tx::begin_with(&core.pool, &core.clock, numbers).await?;
    let (mut number, mut key, mut start) = (Vec::new(), Vec::new(), Vec::new());
    for (one, row) in refused.iter().zip(&rows) {
        let this: i64 = row.try_get(0)?;
        let sealed = one
            .start
            .as_ref()
            .map(|start| sealing.seal(&Owner::day(at(one)), Place::Refused(this), start))
            .transpose()?;
        number.push(this);
        key.push(sealed.as_ref().and_then(|sealed| sealed.key));
        start.push(sealed.map(|sealed| sealed.bytes.into_owned()));
    }
    let insert = statement!(
        "INSERT INTO refused (number, at, sender, reason, status, size, known, key, start)
         OVERRIDING SYSTEM VALUE
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[],
                              $8::bigint[], $9::bytea[])",
        number,
        refused.iter().map(|one| at(one).as_millis()).collect::<Vec<_>>(),
        refused.iter().map(|one| codes::text(&one.sender)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.reason).collect::<Vec<_>>(),
        refused.iter().map(|one| i64::from(one.status)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.size.map(codes::signed)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.is_known).collect::<Vec<_>>(),
        key,
        start,
    );
    // What another receiver adds at the same time is cut by the next who adds.
    let cut = statement!(
        "DELETE FROM refused WHERE number IN (
             SELECT number FROM refused ORDER BY known, number
             LIMIT greatest(0, (SELECT count(*) FROM refused) - $1))",
        codes::signed(core.refused),
    );
    core.commit(tx, &[insert, cut], Touched::default()).await.map(drop)
}

/// Those of a span of time, the newest first.
pub(super) async fn list(core: &Core, [from, to]: [i64; 2], limit: usize) -> Result<Vec<RefusedView>, Trouble> {
    let rows = find(&core.pool, [from, to], limit).await?;
    let keys: Result<Vec<Option<i64>>, _> = rows.iter().map(|row| row.try_get("key")).collect();
    let opening = core.vault.opening(keys?).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (number, at) = (row.try_get("number")?, codes::time(&row, "at")?.unwrap_or_default());
        let (start, key): (Option<Vec<u8>>, Option<i64>) = (row.try_get("start")?, row.try_get("key")?);
        // A list is made without a key too; it has no starts then.
        let start = start.filter(|_| key.is_none() || core.vault.is_on());
        found.push(RefusedView {
            number,
            at: core.clock.local(at),
            sender: codes::read(&row, "sender")?,
            reason: codes::read(&row, "reason")?,
            status: u16::try_from(row.try_get::<_, i64>("status")?).unwrap_or(0),
            bytes: codes::unsigned(&row, "size")?,
            start: start.map(|start| opening.open(key, &Owner::day(at), Place::Refused(number), start)).transpose()?,
        });
    }
    Ok(found)
}

async fn find(pool: &Pool, [from, to]: [i64; 2], limit: usize) -> Result<Vec<tokio_postgres::Row>, Trouble> {
    let sql = "SELECT * FROM refused WHERE at BETWEEN $1 AND $2 ORDER BY number DESC LIMIT $3";
    tx::query(pool, statement!(sql, from, to, codes::signed(limit))).await
}
