//! [`Receivers`] on the file: one at a time, as a rule.

use super::store::Sqlite;
use crate::{
    Error, Receiver, ReceiverView, Receivers,
    receivers::{KEPT, KEPT_BESIDE},
};
use async_trait::async_trait;
use base::clock::Timestamp;
use rusqlite::{Row, params};

#[async_trait]
impl Receivers for Sqlite {
    async fn report(&self, receiver: &Receiver) -> Result<(), Error> {
        let receiver = receiver.clone();
        self.write(move |tx| {
            let Receiver { id, name, version, since, obstacle } = &receiver;
            tx.connection
                .prepare_cached("DELETE FROM receiver WHERE id <> ?1 AND (seen < ?2 OR (name = ?3 AND seen < ?4))")?
                .execute(params![id, tx.now.before(KEPT).as_millis(), name, tx.now.before(KEPT_BESIDE).as_millis()])?;
            tx.connection
                .prepare_cached(
                    "INSERT INTO receiver (id, name, version, since, seen, obstacle) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, obstacle = excluded.obstacle",
                )?
                .execute(params![id, name, version, since.as_millis(), tx.now.as_millis(), obstacle])?;
            Ok(())
        })
        .await
    }

    async fn leave(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.write(move |tx| {
            tx.connection.prepare_cached("DELETE FROM receiver WHERE id = ?1")?.execute([&id])?;
            Ok(())
        })
        .await
    }

    async fn receivers(&self) -> Result<Vec<ReceiverView>, Error> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT id, name, version, since, obstacle, seen FROM receiver ORDER BY name, since, id",
                )?
                .query_map([], view)?
                .collect()
        })
        .await
    }
}

fn view(row: &Row<'_>) -> rusqlite::Result<ReceiverView> {
    let time = |column| row.get(column).map(Timestamp::from_millis);
    let (id, name, version, obstacle) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
    Ok(ReceiverView { receiver: Receiver { id, name, version, since: time(3)?, obstacle }, seen: time(5)? })
}
