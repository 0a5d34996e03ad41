//! [`Watch`] on the file: looks up what the newest happenings are about.

use super::{happenings::Noted, stages, store::Sqlite};
use crate::{About, DeliveryId, Error, Happening, Seen, Seq, Watch};
use async_trait::async_trait;
use event::{ConnectionId, UserId};
use rusqlite::{Connection, OptionalExtension};

#[async_trait]
impl Watch for Sqlite {
    fn next(&self) -> u64 {
        self.shared.happenings.next()
    }

    async fn seen(&self, from: u64, limit: usize) -> Result<Seen, Error> {
        let happenings = &self.shared.happenings;
        let is_over = happenings.wait(from).await;
        let (noted, missed, next) = happenings.from(from, limit);
        if is_over && noted.is_empty() {
            return Err(Error::Closed);
        }
        let found = self.read(move |connection| noted.into_iter().map(|one| look_up(connection, one)).collect());
        Ok(Seen { happenings: found.await?, missed, next })
    }
}

fn look_up(connection: &Connection, noted: Noted) -> rusqlite::Result<Happening> {
    let Noted { at, what, seq, kind, reason, due } = noted;
    let about = connection
        .prepare_cached("SELECT coalesce(delivery_id, id), connection, user FROM entry WHERE seq = ?1")?
        .query_row([seq], |row| {
            Ok(About {
                delivery_id: DeliveryId::new(row.get::<_, String>(0)?),
                connection: ConnectionId::new(row.get::<_, String>(1)?),
                user: row.get::<_, Option<String>>(2)?.map(UserId::new),
            })
        })
        .optional()?;
    let stage = kind.map(|kind| stages::name(connection, kind)).transpose()?;
    Ok(Happening { at, what, seq: Seq(seq), stage, reason: reason.map(String::from), due, about })
}
