//! [`Upkeep`] on the file.

use super::{codes::Kind, counts, entries, refused, stages, store::Sqlite};
use crate::{Error, Expired, Failure, Resealed, Seq, Stage, StageCounts, Stats, Upkeep, numbers::Numbers, seal::To};
use async_trait::async_trait;
use base::{clock::Timestamp, folder};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// How long the figures wait for their correction: a page that shows them is to be there within 200 ms.
const RECOUNT_TIMEOUT: Duration = Duration::from_millis(100);

/// Rows looked at by one call of [`expired`] at most.
const EXPIRE_SCAN: usize = 5_000;

#[async_trait]
impl Upkeep for Sqlite {
    async fn stats(&self) -> Result<Stats, Error> {
        let counted_at = self.shared.counted_at();
        // A writer that is held up must not hold up the figures; they are corrected the next time.
        drop(timeout(RECOUNT_TIMEOUT, self.write(move |tx| counts::recount(tx, counted_at))).await);
        let (sinks, shared, path) = (Arc::clone(&self.sinks), Arc::clone(&self.shared), self.path.clone());
        let stats = self.read(move |connection| {
            let mut numbers = shared.numbers();
            let mut counts: Vec<(Stage, StageCounts)> = Vec::with_capacity(numbers.len());
            for (kind, stage) in sinks.stages() {
                counts.push((stage, numbers.remove(&kind).unwrap_or_default().counts()));
            }
            // What sinks have left behind that are not configured any more.
            for (kind, numbers) in numbers.into_iter().filter(|(_, numbers)| *numbers != Numbers::default()) {
                counts.push((stages::name(connection, kind)?, numbers.counts()));
            }
            let size = |suffix| fs::metadata(folder::beside(&path, suffix)).map_or(0, |meta| meta.len());
            let log_bytes = size("-wal");
            let mut oldest_by_stage = Vec::new();
            for (kind, accepted) in oldest_by_kind(connection)? {
                oldest_by_stage.push((stages::name(connection, kind)?, accepted));
            }
            let mut held = Vec::new();
            for (kind, lines) in counts::held_lines(connection, Stats::HELD.into())? {
                held.push((stages::name(connection, kind)?, lines));
            }
            Ok(Stats {
                stages: counts,
                held,
                oldest_unfinished: oldest_by_stage.iter().map(|(_, accepted)| *accepted).min(),
                oldest_by_stage,
                failures: failures(connection)?,
                last_accepted: last_accepted(connection)?,
                size_bytes: size("") + log_bytes,
                log_bytes,
                reusable_bytes: reusable_bytes(connection)?,
                ..Stats::default()
            })
        });
        let stats = stats.await?;
        self.space.set_reusable(stats.reusable_bytes);
        Ok(Stats { free_bytes: self.space.known_free(), ..stats })
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        if self.space.has_room_to_spare()
            && let Err(error) = self.reserve.make()
        {
            tracing::debug!(code = "disk_reserve_missing", error = %error, "no room could be set aside for deletions on a full disk");
        }
        self.checkpoint().await
    }

    async fn expire(&self, cutoff: Timestamp, limit: usize) -> Result<Expired, Error> {
        let looked_at = Arc::clone(&self.looked_at);
        let (deleted, next) = self
            .write_to_free(move |tx| {
                refused::expire(tx, cutoff)?;
                let (old, next) = expired(tx.connection, cutoff, looked_at.load(Ordering::Relaxed), limit)?;
                old.iter().try_for_each(|seq| entries::delete(tx, *seq))?;
                Ok((old.len() as u64, next))
            })
            .await?;
        self.looked_at.store(next, Ordering::Relaxed);
        Ok(Expired { deleted, is_done: next == 0 })
    }

    async fn seal(&self, limit: usize) -> Result<Resealed, Error> {
        self.reseal(To::Sealed, limit).await
    }

    async fn unseal(&self, limit: usize) -> Result<Resealed, Error> {
        self.reseal(To::Plain, limit).await
    }

    async fn fold_log(&self) -> Result<(), Error> {
        self.clear().await
    }

    async fn close(&self) {
        self.end().await;
    }
}

/// By stage, when the oldest entry was accepted that is first in its line there. What stands behind it came later, and what
/// waits for its fetch counts as work of the fetch; so only the heads of lines are looked at, and not a backlog of millions.
fn oldest_by_kind(connection: &Connection) -> rusqlite::Result<Vec<(Kind, Timestamp)>> {
    connection
        .prepare_cached(
            "SELECT kind, accepted FROM entry JOIN (
                 SELECT kind, min(seq) AS oldest FROM stage INDEXED BY stage_due
                 WHERE state IN ('due', 'leased') GROUP BY kind
             ) ON entry.seq = oldest",
        )?
        .query_map([], |row| Ok((row.get(0)?, Timestamp::from_millis(row.get(1)?))))?
        .collect()
}

/// The last failure of each stage that ever had one.
fn failures(connection: &Connection) -> rusqlite::Result<Vec<(Stage, Failure)>> {
    connection
        .prepare_cached("SELECT kind, at, seq, reason FROM failure ORDER BY kind")?
        .query_map([], |row| {
            let failure = Failure {
                at: Timestamp::from_millis(row.get(1)?),
                seq: Seq(row.get(2)?),
                reason: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            };
            Ok((stages::name(connection, row.get(0)?)?, failure))
        })?
        .collect()
}

/// Bytes of pages that the file has and does not use.
fn reusable_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let bytes = number("PRAGMA freelist_count")?.saturating_mul(number("PRAGMA page_size")?);
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// When the newest entry was accepted.
fn last_accepted(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached("SELECT accepted FROM entry ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0).map(Timestamp::from_millis))
        .optional()
}

/// Entries whose time is over, of the [`EXPIRE_SCAN`] old ones behind `after`; and the number to go on behind, 0 at the end.
/// Entries that a person must look at may stand in front for months, so what was looked at is not looked at again at once.
fn expired(connection: &Connection, cutoff: Timestamp, after: i64, limit: usize) -> rusqlite::Result<(Vec<i64>, i64)> {
    let (mut old, mut seen, mut last) = (Vec::new(), 0, after);
    let mut statement = connection.prepare_cached(
        "SELECT seq, accepted,
                NOT EXISTS (SELECT 1 FROM stage WHERE stage.seq = entry.seq AND (state <> 'done' OR changed >= ?1))
         FROM entry WHERE seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let scan = i64::try_from(EXPIRE_SCAN).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![cutoff.as_millis(), after, scan])?;
    while let Some(row) = rows.next()? {
        if old.len() >= limit {
            return Ok((old, last));
        }
        // Old entries have low numbers: behind the first young one there is nothing to find.
        if row.get::<_, i64>(1)? >= cutoff.as_millis() {
            return Ok((old, 0));
        }
        (last, seen) = (row.get(0)?, seen + 1);
        if row.get(2)? {
            old.push(last);
        }
    }
    Ok((old, if seen < EXPIRE_SCAN { 0 } else { last }))
}
