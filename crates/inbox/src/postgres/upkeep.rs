//! [`Upkeep`] on the server.

use super::{
    codes, delete, lines, resealing,
    shared::Touched,
    stages,
    store::{Core, Postgres},
    tx::{self, Trouble, Tx, statement},
};
use crate::{
    Error, Expired, Failure, Resealed, Seq, Stage, StageCounts, Stats, Upkeep, kind::Kind, numbers::Numbers,
    rules::Standing,
};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};
use tokio_postgres::Row;

/// Entries looked at by one call of `expire` at most.
const EXPIRE_SCAN: usize = 5_000;

/// Receivers that want to do the same periodic work: one of them does it, and the others leave it for this time. The lock ends with its
/// transaction, so no receiver can be stuck with it.
const ALONE: &str =
    "SELECT pg_try_advisory_xact_lock(hashtextextended('linxo-webhook retention ' || current_schema(), 0))";

#[async_trait]
impl Upkeep for Postgres {
    async fn stats(&self) -> Result<Stats, Error> {
        self.0.is_open()?;
        Ok(stats(&self.0).await?)
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        // The server does it.
        Ok(())
    }

    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<Expired, Error> {
        let cutoff = self.0.clock.server(cutoff).as_millis();
        self.detached(move |core| async move { tx::until_done(|| expire(&core, cutoff, limit)).await }).await
    }

    async fn seal(&self, limit: usize) -> Result<Resealed, Error> {
        self.detached(move |core| async move { tx::until_done(|| resealing::seal(&core, limit)).await }).await
    }

    async fn unseal(&self, limit: usize) -> Result<Resealed, Error> {
        self.detached(move |core| async move { tx::until_done(|| resealing::unseal(&core, limit)).await }).await
    }

    async fn fold_log(&self) -> Result<(), Error> {
        self.0.clean_up().await
    }

    async fn close(&self) {
        let core = Arc::clone(&self.0);
        // Whoever closes may go away.
        drop(tokio::spawn(async move { core.close().await }).await);
    }
}

async fn stats(core: &Core) -> Result<Stats, Trouble> {
    core.count().await?;
    let names = stages::names(&core.pool).await?;
    let mut numbers = core.shared.tally(|tally| tally.numbers().clone());
    let mut counts: Vec<(Stage, StageCounts)> = Vec::with_capacity(numbers.len());
    for (kind, stage) in core.sinks.stages() {
        counts.push((stage, numbers.remove(&kind).unwrap_or_default().counts()));
    }
    // What sinks have left behind that are not configured any more.
    for (kind, numbers) in numbers.into_iter().filter(|(_, numbers)| *numbers != Numbers::default()) {
        counts.extend(names.get(&kind).map(|stage| (stage.clone(), numbers.counts())));
    }
    let oldest_by_stage = oldest(core, &names).await?;
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT (SELECT accepted FROM entry ORDER BY seq DESC LIMIT 1) AS last,
                    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
                     WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r') AS size"
        ),
    )
    .await?;
    let row = rows.first().ok_or(Trouble::Again)?;
    Ok(Stats {
        stages: counts,
        oldest_unfinished: oldest_by_stage.iter().map(|(_, accepted)| *accepted).min(),
        oldest_by_stage,
        held: held(core, &names).await?,
        failures: failures(core, &names).await?,
        last_accepted: codes::time(row, "last")?.map(|at| core.clock.local(at)),
        size_bytes: codes::unsigned(row, "size")?.unwrap_or(0),
        ..Stats::default()
    })
}

/// By stage, when the oldest entry was accepted that is first in its line there. What stands behind it came later, and what waits for
/// its fetch counts as work of the fetch.
async fn oldest(core: &Core, names: &BTreeMap<Kind, Stage>) -> Result<Vec<(Stage, Timestamp)>, Trouble> {
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT k.kind, entry.accepted
             FROM (SELECT 0::bigint AS kind UNION ALL SELECT id FROM sink) AS k
                  CROSS JOIN LATERAL (SELECT seq FROM stage WHERE stage.kind = k.kind AND state IN ('due', 'leased')
                                      ORDER BY seq LIMIT 1) AS s
                  JOIN entry ON entry.seq = s.seq
             ORDER BY k.kind"
        ),
    )
    .await?;
    let mut oldest = Vec::with_capacity(rows.len());
    for row in &rows {
        let accepted = core.clock.local(codes::time(row, "accepted")?.unwrap_or_default());
        oldest.extend(names.get(&Kind(row.try_get("kind")?)).map(|stage| (stage.clone(), accepted)));
    }
    Ok(oldest)
}

/// By sink that keeps strict order, how many connections have something that waits behind a parked entry.
async fn held(core: &Core, names: &BTreeMap<Kind, Stage>) -> Result<Vec<(Stage, u64)>, Trouble> {
    let rows = tx::query(
        &core.pool,
        statement!(
            "SELECT sink.id, count(held.line) AS lines
             FROM sink LEFT JOIN LATERAL (
                 SELECT p.line FROM (
                     SELECT line, min(seq) AS first FROM (
                         SELECT line, seq FROM stage WHERE kind = sink.id AND state = 'parked' ORDER BY line, seq LIMIT $1) AS parked
                     GROUP BY line) AS p
                 WHERE EXISTS (SELECT 1 FROM stage WHERE stage.kind = sink.id AND stage.line = p.line
                               AND state IN ('queued', 'due', 'leased') AND seq > p.first)) AS held ON true
             WHERE strict GROUP BY sink.id ORDER BY sink.id",
            i64::from(Stats::HELD)
        ),
    )
    .await?;
    let mut held = Vec::with_capacity(rows.len());
    for row in &rows {
        let lines = codes::unsigned(row, "lines")?.unwrap_or(0);
        held.extend(names.get(&Kind(row.try_get("id")?)).map(|stage| (stage.clone(), lines)));
    }
    Ok(held)
}

/// The last failure of each stage that ever had one.
async fn failures(core: &Core, names: &BTreeMap<Kind, Stage>) -> Result<Vec<(Stage, Failure)>, Trouble> {
    let sql = "SELECT DISTINCT ON (kind) kind, at, seq, reason FROM failure ORDER BY kind, at DESC, seq DESC";
    let rows = tx::query(&core.pool, statement!(sql)).await?;
    let mut failures = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(stage) = names.get(&Kind(row.try_get("kind")?)) else { continue };
        let failure = Failure {
            at: core.clock.local(codes::time(row, "at")?.unwrap_or_default()),
            seq: Seq(row.try_get("seq")?),
            reason: codes::read_maybe(row, "reason")?.unwrap_or_default(),
        };
        failures.push((stage.clone(), failure));
    }
    Ok(failures)
}

/// Deletes some entries whose time is over, of the [`EXPIRE_SCAN`] old ones behind the last that was looked at. Entries that a person
/// must look at may stand in front for months, so what was looked at is not looked at again at once.
async fn expire(core: &Core, cutoff: i64, limit: usize) -> Result<Expired, Trouble> {
    let after = core.looked_at.load(Ordering::Relaxed);
    let (alone, rows) = Tx::begin_with(&core.pool, &core.clock, statement!(ALONE)).await?;
    if !rows.first().map_or(Ok(false), |row| row.try_get(0))? {
        alone.give_up();
        return Ok(Expired { deleted: 0, is_done: true });
    }
    alone.execute(&[statement!("DELETE FROM refused WHERE at < $1", cutoff)]).await?;
    let scanned = alone
        .query(statement!(
            "SELECT seq, accepted,
                    (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND (state <> 'done' OR changed >= $1) LIMIT 1) IS NULL AS is_over
             FROM entry WHERE seq > $2 ORDER BY seq LIMIT $3",
            cutoff,
            after,
            codes::signed(EXPIRE_SCAN)
        ))
        .await?;
    let (old, next) = over(&scanned, cutoff, after, limit)?;
    // In a transaction of its own, which locks lines in their order. Until it has ended no other receiver begins.
    let deleted = delete_old(core, cutoff, &old).await?;
    alone.commit(&[]).await?;
    core.looked_at.store(next, Ordering::Relaxed);
    Ok(Expired { deleted, is_done: next == 0 })
}

/// The entries whose time is over, and the number to go on behind, 0 at the end.
fn over(scanned: &[Row], cutoff: i64, after: i64, limit: usize) -> Result<(Vec<i64>, i64), Trouble> {
    let (mut old, mut last) = (Vec::new(), after);
    for row in scanned {
        if old.len() >= limit {
            return Ok((old, last));
        }
        // Old entries have low numbers: behind the first young one there is nothing to find.
        if row.try_get::<_, i64>("accepted")? >= cutoff {
            return Ok((old, 0));
        }
        last = row.try_get("seq")?;
        if row.try_get("is_over")? {
            old.push(last);
        }
    }
    Ok((old, if scanned.len() < EXPIRE_SCAN { 0 } else { last }))
}

async fn delete_old(core: &Core, cutoff: i64, old: &[i64]) -> Result<u64, Trouble> {
    if old.is_empty() {
        return Ok(0);
    }
    let entries = lines::lines_of(&core.pool, old).await?;
    let (tx, mut board) = lines::load(&core.pool, &core.clock, &entries).await?;
    let (mut touched, mut deleted) = (Touched::default(), Vec::with_capacity(old.len()));
    for seq in old {
        let stages = board.of_entry(*seq);
        let is_over = |row: &&stages::StageRow| {
            row.progress.standing == Standing::Done && row.progress.changed.as_millis() < cutoff
        };
        // An operator may have put it back in line.
        if !stages.is_empty() && stages.iter().all(is_over) {
            board.forget(*seq, &mut touched);
            deleted.push(*seq);
        }
    }
    core.store(tx, board, (Vec::new(), delete::entries(&deleted)), touched).await?;
    Ok(deleted.len() as u64)
}

/// The tables that hold bank data, or what tells whose it is.
const TABLES: &str =
    "entry, body, stage, attempt, known, fetched, reading, page, refused, shortfall, delivered, line, failure, merged";

impl Core {
    /// Has the server reuse the room of what was deleted at somebody's wish. It locks nobody out, and takes as long as the tables are
    /// large; what retention deletes is left to the server's own autovacuum.
    pub(super) async fn clean_up(&self) -> Result<(), Error> {
        self.is_open()?;
        if !self.is_to_be_cleaned.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let cleaned =
            tx::alone(&self.pool, &["SET statement_timeout = 0", &format!("VACUUM (TRUNCATE false) {TABLES}")]).await;
        if cleaned.is_err() {
            self.is_to_be_cleaned.store(true, Ordering::Release);
        }
        Ok(cleaned?)
    }
}
