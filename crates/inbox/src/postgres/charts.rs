//! [`Charts`] on the server. A minute is one of the clock of the receiver that notes it: a chart needs no more.

use super::{
    codes,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{Charts, Error, Minute, Span, charts::KEPT};
use async_trait::async_trait;

#[async_trait]
impl Charts for Postgres {
    async fn note(&self, receiver: &str, minute: &Minute) -> Result<(), Error> {
        let (receiver, minute) = (receiver.to_owned(), *minute);
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let forget = statement!("DELETE FROM minute WHERE at < $1", minute.at.before(KEPT).as_millis());
                let note = statement!(
                    "INSERT INTO minute (at, receiver, received, delivered, parked, took) VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (at, receiver) DO UPDATE SET received = minute.received + excluded.received,
                         delivered = minute.delivered + excluded.delivered, parked = minute.parked + excluded.parked,
                         took = minute.took + excluded.took",
                    minute.at.as_millis(),
                    codes::text(&receiver),
                    codes::signed(minute.received),
                    codes::signed(minute.delivered),
                    codes::signed(minute.parked),
                    codes::signed(minute.took_ms),
                );
                let (tx, _) = Tx::begin(&core.pool, &core.clock, &[forget, note]).await?;
                tx.commit(&[]).await.map(drop)
            })
            .await
        })
        .await
    }

    async fn minutes(&self, span: Span, step: u32) -> Result<Vec<Minute>, Error> {
        self.0.is_open()?;
        let [from, to] = span.bounds();
        let rows = tx::query(
            &self.0.pool,
            statement!(
                "SELECT at / $3 * $3 AS at, sum(received)::bigint AS received, sum(delivered)::bigint AS delivered,
                        sum(parked)::bigint AS parked, sum(took)::bigint AS took
                 FROM minute WHERE at BETWEEN $1 AND $2 GROUP BY at / $3 ORDER BY at / $3",
                from,
                to,
                i64::from(step.max(1)) * 60_000,
            ),
        )
        .await?;
        let mut minutes = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = |column| codes::unsigned(row, column).map(Option::unwrap_or_default);
            minutes.push(Minute {
                at: codes::time(row, "at")?.unwrap_or_default(),
                received: count("received")?,
                delivered: count("delivered")?,
                parked: count("parked")?,
                took_ms: count("took")?,
            });
        }
        Ok(minutes)
    }
}
