//! [`Sinks`](crate::Sinks) on the server.

use super::{
    codes, lines,
    shared::Touched,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{Error, SinkName, Stage, rules::Order};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Waits until nobody changes a line, and keeps everybody from it until the commit. Claims change no line, and go on.
const ALONE: &str = "LOCK TABLE line IN EXCLUSIVE MODE";
/// What the rules say (`Progress::step_back`), of all lines of a sink in which something is parked: what was due behind it waits.
const STEP_BACK: &str = "
    UPDATE stage SET state = 'queued'
    FROM (SELECT line, min(seq) AS first FROM stage WHERE kind = $1 AND state = 'parked' GROUP BY line) AS held
    WHERE stage.kind = $1 AND stage.line = held.line AND stage.state = 'due' AND stage.seq > held.first";
/// What the rules say (`Progress::move_up`), of all lines of a sink in which something is parked: the first one that waits is due.
const MOVE_UP: &str = "
    UPDATE stage SET state = 'due', due = greatest(due, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    FROM (SELECT DISTINCT line FROM stage WHERE kind = $1 AND state = 'parked') AS held
         CROSS JOIN LATERAL (SELECT seq FROM stage AS s WHERE s.kind = $1 AND s.line = held.line
                             AND s.state IN ('queued', 'due', 'leased') ORDER BY seq LIMIT 1) AS first
    WHERE stage.kind = $1 AND stage.seq = first.seq AND stage.state = 'queued'
          AND NOT EXISTS (SELECT 1 FROM stage AS f WHERE f.seq = stage.seq AND f.kind <= 0 AND f.state <> 'done')";

#[async_trait]
impl crate::Sinks for Postgres {
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error> {
        self.0.is_open()?;
        let rows =
            tx::query(&self.0.pool, statement!("SELECT name, paused FROM sink WHERE paused IS NOT NULL")).await?;
        let mut paused = BTreeMap::new();
        for row in &rows {
            let since = codes::time(row, "paused")?.unwrap_or_default();
            paused.insert(SinkName::new(row.try_get::<_, &str>("name")?), self.0.clock.local(since));
        }
        Ok(paused)
    }

    async fn pause(&self, sink: &SinkName, pause: bool) -> Result<bool, Error> {
        let name = sink.as_str().to_owned();
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let change = statement!(
                    "UPDATE sink SET paused = CASE WHEN $2 THEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint END
                     WHERE name = $1 AND (paused IS NULL) = $2 RETURNING id",
                    name.clone(),
                    pause
                );
                let (tx, changed) = Tx::begin_with(&core.pool, &core.clock, change).await?;
                tx.commit(&[]).await?;
                Ok(!changed.is_empty())
            })
            .await
        })
        .await
    }

    async fn set_order(&self, sink: &SinkName, order: Order) -> Result<bool, Error> {
        let Some(kind) = self.0.sinks.kind(&Stage::Deliver(sink.clone())) else { return Ok(false) };
        let is_strict = order == Order::Strict;
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let (tx, differs) = Tx::begin_with(
                    &core.pool,
                    &core.clock,
                    statement!("SELECT 1 FROM sink WHERE id = $1 AND strict <> $2", kind.0, is_strict),
                )
                .await?;
                if differs.is_empty() {
                    tx.give_up();
                    return Ok(false);
                }
                tx.script(ALONE).await?;
                let set = statement!("UPDATE sink SET strict = $2 WHERE id = $1", kind.0, is_strict);
                let arrange = if is_strict { statement!(STEP_BACK, kind.0) } else { statement!(MOVE_UP, kind.0) };
                let touched = Touched { due: BTreeSet::from([kind]), ..Touched::default() };
                core.commit(tx, &[set, arrange], touched).await?;
                Ok(true)
            })
            .await
        })
        .await
    }

    async fn resume(&self, sink: &SinkName, before: Timestamp, limit: usize) -> Result<u64, Error> {
        let Some(kind) = self.0.sinks.kind(&Stage::Deliver(sink.clone())) else { return Ok(0) };
        let before = self.0.clock.server(before);
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let found = tx::query(
                    &core.pool,
                    statement!(
                        "SELECT seq, line FROM stage
                         WHERE kind = $1 AND state = 'parked' AND cause IN ('outage', 'gave_up')
                               AND (resumed IS NULL OR resumed <= $2)
                         ORDER BY seq LIMIT $3",
                        kind.0,
                        before.as_millis(),
                        codes::signed(crate::sinks::entries_of(limit))
                    ),
                )
                .await?;
                if found.is_empty() {
                    return Ok(0);
                }
                let entries: Result<Vec<(i64, i64)>, tokio_postgres::Error> =
                    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
                let entries = entries?;
                let (tx, mut board) = lines::load_with_groups(&core.pool, &core.clock, &entries).await?;
                let mut resumed = 0;
                for (seq, _) in &entries {
                    // Another receiver may have been first, or another entry of its group.
                    if resumed < limit as u64
                        && board.get(*seq, kind).is_some_and(|row| row.progress.may_resume(before))
                    {
                        resumed += u64::from(board.resume(*seq, kind) > 0);
                    }
                }
                core.store(tx, board, Default::default(), Touched::default()).await?;
                Ok(resumed)
            })
            .await
        })
        .await
    }
}
