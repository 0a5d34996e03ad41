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
use crate::{
    Refused, RefusedView,
    seal::{Owner, Place},
};
use base::clock::Timestamp;
use std::collections::BTreeSet;

/// Adds to the list and cuts it: first goes the oldest of a sender that is not known.
pub(super) async fn keep(core: &Core, refused: &[Refused]) -> Result<(), Trouble> {
    let at: Vec<Timestamp> = refused.iter().map(|one| core.clock.server(one.at)).collect();
    // A sealed start is bound to its row, so the numbers come first.
    let first = [
        statement!("LOCK TABLE refused IN ROW EXCLUSIVE MODE"),
        statement!(format!("SELECT pg_advisory_xact_lock_shared({})", vault::REFUSED)),
        statement!(
            "SELECT nextval('refused_number_seq') FROM generate_series(1, $1::bigint)",
            codes::signed(refused.len())
        ),
        statement!(vault::SEALED),
    ];
    let (tx, found) = Tx::begin(&core.pool, &core.clock, &first).await?;
    let [_, _, numbers, sealed] = found.as_slice() else { return Err(Trouble::Again) };
    core.vault.must_suit(sealed)?;
    let numbers: Result<Vec<i64>, _> = numbers.iter().map(|row| row.try_get(0)).collect();
    let numbers = numbers?;
    let with_start = refused.iter().zip(&at).filter(|(one, _)| one.start.is_some());
    let sealing = core.vault.sealing(with_start.map(|(_, at)| Owner::day(*at)).collect::<BTreeSet<_>>()).await?;
    let (mut starts, mut keys) = (Vec::with_capacity(refused.len()), Vec::with_capacity(refused.len()));
    for ((one, at), number) in refused.iter().zip(&at).zip(&numbers) {
        let seal = |start| sealing.seal(&Owner::day(*at), Place::Refused(*number), start);
        let sealed = one.start.as_deref().map(seal).transpose()?;
        keys.push(sealed.as_ref().and_then(|sealed| sealed.key));
        starts.push(sealed.map(|sealed| sealed.bytes.into_owned()));
    }
    let insert = statement!(
        "INSERT INTO refused (number, at, sender, reason, status, size, known, start, key) OVERRIDING SYSTEM VALUE
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::boolean[], $8::bytea[],
                              $9::bigint[])",
        numbers,
        at.iter().map(|at| at.as_millis()).collect::<Vec<_>>(),
        refused.iter().map(|one| codes::text(&one.sender)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.reason).collect::<Vec<_>>(),
        refused.iter().map(|one| i64::from(one.status)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.size.map(codes::signed)).collect::<Vec<_>>(),
        refused.iter().map(|one| one.is_known).collect::<Vec<_>>(),
        starts,
        keys,
    );
    // What another receiver adds at the same time is cut by the next who adds.
    let cut = statement!(
        "DELETE FROM refused WHERE number IN (
             SELECT number FROM refused ORDER BY known, number
             LIMIT greatest(0, (SELECT count(*) FROM refused) - $1))",
        codes::signed(core.refused),
    );
    let mut writes = vec![insert, cut];
    writes.extend(core.vault.note(&sealing, tx.slot));
    core.commit(tx, &writes, Touched::default()).await?;
    core.vault.noted(&sealing);
    Ok(())
}

/// Those of a span of time, the newest first.
pub(super) async fn list(core: &Core, [from, to]: [i64; 2], limit: usize) -> Result<Vec<RefusedView>, Trouble> {
    let rows = find(&core.pool, [from, to], limit).await?;
    let opening = core.vault.opening(codes::keys(&rows)?).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (number, at) = (row.try_get("number")?, codes::time(&row, "at")?.unwrap_or_default());
        let (start, key): (Option<Vec<u8>>, Option<i64>) = (row.try_get("start")?, row.try_get("key")?);
        // A list is made without a key too; it has no starts then.
        let may_open = key.is_none() || core.vault.is_on();
        let open = |start| opening.open(key, &Owner::day(at), Place::Refused(number), start);
        found.push(RefusedView {
            number,
            at: core.clock.local(at),
            sender: codes::read(&row, "sender")?,
            reason: codes::read(&row, "reason")?,
            status: u16::try_from(row.try_get::<_, i64>("status")?).unwrap_or(0),
            bytes: codes::unsigned(&row, "size")?,
            start: start.filter(|_| may_open).map(open).transpose()?,
        });
    }
    Ok(found)
}

/// Exchanges the keys of days of which requests were deleted: what is left of them is sealed with new keys, so that the old ones, which
/// sealed what was deleted, can be erased.
pub(super) async fn exchange_keys(core: &Core, days: &BTreeSet<Owner>, at: Timestamp) -> Result<(), Trouble> {
    let (Some((keys, _)), false) = (core.vault.ring(), days.is_empty()) else { return Ok(()) };
    let days: Vec<Owner> = days.iter().cloned().collect();
    let alone = statement!(format!("SELECT pg_advisory_xact_lock({})", vault::REFUSED));
    let (tx, _) = Tx::begin_with(&core.pool, &core.clock, alone).await?;
    keys.replace(&days).await?;
    let rows = tx.query(statement!("SELECT number, at, key, start FROM refused WHERE key IS NOT NULL")).await?;
    let opening = core.vault.opening(codes::keys(&rows)?).await?;
    let sealing = core.vault.sealing(days.clone()).await?;
    let (mut numbers, mut ids, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (number, key) = (row.try_get("number")?, row.try_get("key")?);
        let owner = Owner::day(codes::time(row, "at")?.unwrap_or_default());
        if days.contains(&owner) {
            let plain = opening.open(key, &owner, Place::Refused(number), row.try_get("start")?)?;
            let sealed = sealing.seal(&owner, Place::Refused(number), &plain)?;
            numbers.push(number);
            ids.push(sealed.key);
            starts.push(sealed.bytes.into_owned());
        }
    }
    let write = statement!(
        "UPDATE refused SET key = n.key, start = n.start FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS n (number, key, start)
         WHERE refused.number = n.number",
        numbers,
        ids,
        starts
    );
    let mut writes = vec![write];
    writes.extend(core.vault.note(&sealing, tx.slot));
    core.commit(tx, &writes, Touched::default()).await?;
    core.vault.noted(&sealing);
    // Nobody seals with a key that is replaced, so one that no row has now is needed by none.
    let replaced = keys.replaced_days().await?;
    let used = statement!("SELECT DISTINCT key FROM refused WHERE key = ANY($1)", replaced.clone());
    let used: Result<BTreeSet<i64>, _> = tx::query(&core.pool, used).await?.iter().map(|row| row.try_get(0)).collect();
    let used = used?;
    keys.erase_ids(&replaced.into_iter().filter(|id| !used.contains(id)).collect::<Vec<_>>(), at).await
}

async fn find(pool: &Pool, [from, to]: [i64; 2], limit: usize) -> Result<Vec<tokio_postgres::Row>, Trouble> {
    let sql = "SELECT * FROM refused WHERE at BETWEEN $1 AND $2 ORDER BY number DESC LIMIT $3";
    tx::query(pool, statement!(sql, from, to, codes::signed(limit))).await
}
