//! [`Sinks`](crate::Sinks) on the server.

use super::{
    codes, lines,
    shared::Touched,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{Error, SinkName, Stage};
use async_trait::async_trait;
use base::clock::Timestamp;
use std::collections::BTreeMap;

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
                        codes::signed(limit)
                    ),
                )
                .await?;
                if found.is_empty() {
                    return Ok(0);
                }
                let entries: Result<Vec<(i64, i64)>, tokio_postgres::Error> =
                    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
                let entries = entries?;
                let (tx, mut board) = lines::load(&core.pool, &core.clock, &entries).await?;
                let now = board.now;
                let mut resumed = 0;
                for (seq, _) in &entries {
                    // Another receiver may have been first.
                    if board.get(*seq, kind).is_some_and(|row| row.progress.may_resume(before)) {
                        board.put_back(*seq, kind, |progress| progress.resume(now));
                        resumed += 1;
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
