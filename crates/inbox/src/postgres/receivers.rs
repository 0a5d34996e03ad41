//! [`Receivers`] on the server, by its clock.

use super::{
    codes,
    store::Postgres,
    tx::{self, Tx, statement},
};
use crate::{
    Error, Receiver, ReceiverView, Receivers,
    receivers::{KEPT, KEPT_BESIDE},
};
use async_trait::async_trait;
use base::clock::millis;

#[async_trait]
impl Receivers for Postgres {
    async fn report(&self, receiver: &Receiver) -> Result<(), Error> {
        let receiver = receiver.clone();
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let Receiver { id, name, version, since, obstacle } = &receiver;
                let forget = statement!(
                    "DELETE FROM receiver WHERE id <> $1
                     AND (seen < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $2
                          OR (name = $3 AND seen < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - $4))",
                    codes::text(id),
                    codes::signed(millis(KEPT)),
                    codes::text(name),
                    codes::signed(millis(KEPT_BESIDE)),
                );
                let note = statement!(
                    "INSERT INTO receiver (id, name, version, since, seen, obstacle)
                     VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $5)
                     ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, obstacle = excluded.obstacle",
                    codes::text(id),
                    codes::text(name),
                    codes::text(version),
                    core.clock.server(*since).as_millis(),
                    obstacle.as_deref().map(codes::text),
                );
                let (tx, _) = Tx::begin(&core.pool, &core.clock, &[forget, note]).await?;
                tx.commit(&[]).await.map(drop)
            })
            .await
        })
        .await
    }

    async fn leave(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let delete = statement!("DELETE FROM receiver WHERE id = $1", codes::text(&id));
                let (tx, _) = Tx::begin_with(&core.pool, &core.clock, delete).await?;
                tx.commit(&[]).await.map(drop)
            })
            .await
        })
        .await
    }

    async fn receivers(&self) -> Result<Vec<ReceiverView>, Error> {
        self.0.is_open()?;
        let sql = "SELECT * FROM receiver ORDER BY name, since, id";
        let rows = tx::query(&self.0.pool, statement!(sql)).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let time = |column| codes::time(row, column).map(|at| self.0.clock.local(at.unwrap_or_default()));
            let receiver = Receiver {
                id: codes::read(row, "id")?,
                name: codes::read(row, "name")?,
                version: codes::read(row, "version")?,
                since: time("since")?,
                obstacle: codes::read_maybe(row, "obstacle")?,
            };
            found.push(ReceiverView { receiver, seen: time("seen")? });
        }
        Ok(found)
    }
}
