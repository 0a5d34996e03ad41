//! [`Charts`] on the server. Minutes are those of the server's clock.

use super::{
    codes,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{Charts, Error, Minute, Span, charts::KEPT};
use async_trait::async_trait;
use base::clock::Timestamp;

/// Milliseconds.
const MINUTE: i64 = 60_000;

/// The minute that begins nearest: clocks that differ by milliseconds must not move one to its neighbour.
const fn nearest(millis: i64) -> i64 {
    millis.saturating_add(MINUTE / 2).div_euclid(MINUTE) * MINUTE
}

#[async_trait]
impl Charts for Postgres {
    async fn note(&self, receiver: &str, minute: &Minute) -> Result<(), Error> {
        let (receiver, minute) = (receiver.to_owned(), *minute);
        self.detached(move |core| async move {
            let at = core.clock.server(minute.at);
            tx::until_done(|| async {
                let forget = statement!("DELETE FROM minute WHERE at < $1", at.before(KEPT).as_millis());
                let note = statement!(
                    "INSERT INTO minute (at, receiver, received, delivered, parked, took) VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (at, receiver) DO UPDATE SET received = minute.received + excluded.received,
                         delivered = minute.delivered + excluded.delivered, parked = minute.parked + excluded.parked,
                         took = minute.took + excluded.took",
                    nearest(at.as_millis()),
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
        // A minute belongs to the span whose beginning is nearest to its own.
        let [from, to] = self.0.clock.span(span).map(|end| end.saturating_sub(MINUTE / 2));
        let rows = tx::query(
            &self.0.pool,
            statement!(
                "SELECT at / $3 * $3 AS at, sum(received)::bigint AS received, sum(delivered)::bigint AS delivered,
                        sum(parked)::bigint AS parked, sum(took)::bigint AS took
                 FROM minute WHERE at BETWEEN $1 AND $2 GROUP BY at / $3 ORDER BY at / $3",
                from,
                to,
                i64::from(step.max(1)) * MINUTE,
            ),
        )
        .await?;
        let mut minutes = Vec::with_capacity(rows.len());
        for row in &rows {
            let count = |column| codes::unsigned(row, column).map(Option::unwrap_or_default);
            minutes.push(Minute {
                at: Timestamp::from_millis(nearest(
                    self.0.clock.local(codes::time(row, "at")?.unwrap_or_default()).as_millis(),
                )),
                received: count("received")?,
                delivered: count("delivered")?,
                parked: count("parked")?,
                took_ms: count("took")?,
            });
        }
        Ok(minutes)
    }
}
