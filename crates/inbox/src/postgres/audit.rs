//! [`Audit`] on the server.

use super::{
    codes,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{Act, ActView, Audit, Error, Span};
use async_trait::async_trait;
use base::clock::Timestamp;

#[async_trait]
impl Audit for Postgres {
    async fn begin(&self, act: &Act) -> Result<i64, Error> {
        let act = act.clone();
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let insert = statement!(
                    "INSERT INTO act (at, who, what, which)
                     VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint, $1, $2, $3) RETURNING number",
                    codes::text(&act.who),
                    codes::text(&act.what),
                    codes::text(&act.which),
                );
                let (tx, rows) = Tx::begin_with(&core.pool, &core.clock, insert).await?;
                tx.commit(&[]).await?;
                Ok(rows.first().ok_or(tx::Trouble::Again)?.try_get(0)?)
            })
            .await
        })
        .await
    }

    async fn end(&self, number: i64, entries: u64) -> Result<(), Error> {
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let sql = "UPDATE act SET entries = $2 WHERE number = $1";
                let update = statement!(sql, number, codes::signed(entries));
                let (tx, _) = Tx::begin_with(&core.pool, &core.clock, update).await?;
                tx.commit(&[]).await.map(drop)
            })
            .await
        })
        .await
    }

    async fn acts(&self, span: Span, limit: usize) -> Result<Vec<ActView>, Error> {
        self.0.is_open()?;
        let [from, to] = self.0.clock.span(span);
        let sql = "SELECT * FROM act WHERE at BETWEEN $1 AND $2 ORDER BY number DESC LIMIT $3";
        let rows = tx::query(&self.0.pool, statement!(sql, from, to, codes::signed(limit))).await?;
        let mut acts = Vec::with_capacity(rows.len());
        for row in &rows {
            acts.push(ActView {
                number: row.try_get("number")?,
                at: self.0.clock.local(codes::time(row, "at")?.unwrap_or_default()),
                act: Act {
                    who: codes::read(row, "who")?,
                    what: codes::read(row, "what")?,
                    which: codes::read(row, "which")?,
                },
                entries: codes::unsigned(row, "entries")?,
            });
        }
        Ok(acts)
    }

    async fn forget(&self, cutoff: Timestamp) -> Result<u64, Error> {
        let cutoff = self.0.clock.server(cutoff).as_millis();
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let delete = statement!("DELETE FROM act WHERE at < $1 RETURNING 1", cutoff);
                let (tx, gone) = Tx::begin_with(&core.pool, &core.clock, delete).await?;
                tx.commit(&[]).await?;
                Ok(gone.len() as u64)
            })
            .await
        })
        .await
    }
}
