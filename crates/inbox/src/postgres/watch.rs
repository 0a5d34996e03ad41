//! [`Watch`] on the server: looks up what the newest happenings are about. What other receivers did is not among them.

use super::{
    codes, stages,
    store::Postgres,
    tx::{self, statement},
};
use crate::{About, DeliveryId, Error, Happening, Seen, Seq, Watch};
use async_trait::async_trait;
use event::{ConnectionId, UserId};
use std::collections::HashMap;

#[async_trait]
impl Watch for Postgres {
    fn next(&self) -> u64 {
        self.0.shared.happenings.next()
    }

    async fn seen(&self, from: u64, limit: usize) -> Result<Seen, Error> {
        let happenings = &self.0.shared.happenings;
        let is_over = happenings.wait(from).await;
        let (noted, missed, next) = happenings.from(from, limit);
        if is_over && noted.is_empty() {
            return Err(Error::Closed);
        }
        let seqs: Vec<i64> = noted.iter().map(|one| one.seq).collect();
        let sql =
            "SELECT seq, coalesce(delivery_id, id) AS delivery_id, connection, \"user\" FROM entry WHERE seq = ANY($1)";
        let rows = tx::query(&self.0.pool, statement!(sql, seqs)).await?;
        let mut about = HashMap::with_capacity(rows.len());
        for row in &rows {
            let found = About {
                delivery_id: DeliveryId::new(codes::read(row, "delivery_id")?),
                connection: ConnectionId::new(codes::read(row, "connection")?),
                user: codes::read_maybe(row, "user")?.map(UserId::new),
            };
            about.insert(row.try_get::<_, i64>("seq")?, found);
        }
        let names = stages::names(&self.0.pool).await?;
        let happenings = noted
            .into_iter()
            .map(|one| Happening {
                at: one.at,
                what: one.what,
                seq: Seq(one.seq),
                stage: one.kind.and_then(|kind| names.get(&kind).cloned()),
                reason: one.reason.map(String::from),
                due: one.due,
                about: about.get(&one.seq).cloned(),
            })
            .collect();
        Ok(Seen { happenings, missed, next })
    }
}
