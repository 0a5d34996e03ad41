//! [`Audit`] on the file.

use super::{codes::unsigned, store::Sqlite};
use crate::{Act, ActView, Audit, Error, Span};
use async_trait::async_trait;
use base::clock::Timestamp;
use rusqlite::params;

#[async_trait]
impl Audit for Sqlite {
    async fn begin(&self, act: &Act) -> Result<i64, Error> {
        let act = act.clone();
        self.write(move |tx| {
            tx.connection
                .prepare_cached("INSERT INTO act (at, who, what, which) VALUES (?1, ?2, ?3, ?4)")?
                .insert(params![tx.now.as_millis(), act.who, act.what, act.which])
        })
        .await
    }

    async fn end(&self, number: i64, entries: u64) -> Result<(), Error> {
        self.write(move |tx| {
            let entries = i64::try_from(entries).unwrap_or(i64::MAX);
            tx.connection
                .prepare_cached("UPDATE act SET entries = ?2 WHERE number = ?1")?
                .execute([number, entries])?;
            Ok(())
        })
        .await
    }

    async fn acts(&self, span: Span, limit: usize) -> Result<Vec<ActView>, Error> {
        let [from, to] = span.bounds();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT number, at, who, what, which, entries FROM act WHERE at BETWEEN ?1 AND ?2
                     ORDER BY number DESC LIMIT ?3",
                )?
                .query_map([from, to, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                    Ok(ActView {
                        number: row.get(0)?,
                        at: Timestamp::from_millis(row.get(1)?),
                        act: Act { who: row.get(2)?, what: row.get(3)?, which: row.get(4)? },
                        entries: unsigned(row, 5)?,
                    })
                })?
                .collect()
        })
        .await
    }

    async fn forget(&self, cutoff: Timestamp) -> Result<u64, Error> {
        self.write(move |tx| {
            let forgotten =
                tx.connection.prepare_cached("DELETE FROM act WHERE at < ?1")?.execute([cutoff.as_millis()])?;
            Ok(forgotten as u64)
        })
        .await
    }
}
