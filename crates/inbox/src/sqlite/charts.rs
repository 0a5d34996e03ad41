//! [`Charts`] on the file.

use super::store::Sqlite;
use crate::{Charts, Error, Minute, Span, charts::KEPT};
use async_trait::async_trait;
use base::clock::Timestamp;
use rusqlite::{Row, params};

#[async_trait]
impl Charts for Sqlite {
    async fn note(&self, receiver: &str, minute: &Minute) -> Result<(), Error> {
        let (receiver, minute) = (receiver.to_owned(), *minute);
        self.write(move |tx| {
            let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let Minute { at, received, delivered, parked, took_ms } = minute;
            let old = at.before(KEPT).as_millis();
            tx.connection.prepare_cached("DELETE FROM minute WHERE at < ?1")?.execute([old])?;
            tx.connection
                .prepare_cached(
                    "INSERT INTO minute (at, receiver, received, delivered, parked, took) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (at, receiver) DO UPDATE SET received = received + excluded.received,
                         delivered = delivered + excluded.delivered, parked = parked + excluded.parked,
                         took = took + excluded.took",
                )?
                .execute(params![
                    at.as_millis(),
                    receiver,
                    whole(received),
                    whole(delivered),
                    whole(parked),
                    whole(took_ms)
                ])?;
            Ok(())
        })
        .await
    }

    async fn minutes(&self, span: Span, step: u32) -> Result<Vec<Minute>, Error> {
        let [from, to] = span.bounds();
        let step = i64::from(step.max(1)) * 60_000;
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT at / ?3 * ?3, sum(received), sum(delivered), sum(parked), sum(took) FROM minute
                     WHERE at BETWEEN ?1 AND ?2 GROUP BY at / ?3 ORDER BY at / ?3",
                )?
                .query_map([from, to, step], minute)?
                .collect()
        })
        .await
    }
}

fn minute(row: &Row<'_>) -> rusqlite::Result<Minute> {
    let count = |column| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or_default());
    Ok(Minute {
        at: Timestamp::from_millis(row.get(0)?),
        received: count(1)?,
        delivered: count(2)?,
        parked: count(3)?,
        took_ms: count(4)?,
    })
}
