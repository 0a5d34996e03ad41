//! [`Readings`] and [`Shelf`] on the server: what was fetched goes in under a lease, and comes out for deliveries.

use super::{
    codes, readings,
    store::{Core, Held, Postgres},
    tx::{self, Statement, Trouble, Tx, statement},
    vault,
};
use crate::{Error, Facts, Lease, Page, Reading, ReadingId, Readings, Shelf, Shortfall};
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// What a write under a lease needs of the lease.
#[derive(Clone, Debug)]
struct Under {
    held: Held,
    entry: Arc<Facts>,
}

impl Postgres {
    fn under(&self, lease: &Lease) -> Result<Under, Error> {
        self.0.is_open()?;
        Ok(Under { held: self.0.held(lease)?, entry: Arc::clone(&lease.entry) })
    }

    /// Writes under a lease.
    async fn keep(
        &self,
        lease: &Lease,
        write: impl Fn(&Tx) -> Vec<Statement> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let under = self.under(lease)?;
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let (tx, _) = core.begin_held(&under.held).await?;
                let writes = write(&tx);
                tx.commit(&writes).await.map(drop)
            })
            .await
        })
        .await
    }
}

#[async_trait]
impl Readings for Postgres {
    async fn find_or_begin(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error> {
        let under = self.under(lease)?;
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let (tx, _) = core.begin_held(&under.held).await?;
                let reading = readings::find_or_begin(&core, &tx, &under.entry, resume_within).await?;
                tx.commit(&[]).await?;
                Ok(reading)
            })
            .await
        })
        .await
    }

    async fn begin(&self, lease: &Lease) -> Result<Reading, Error> {
        let under = self.under(lease)?;
        self.detached(move |core| async move {
            tx::until_done(|| async {
                let (tx, _) = core.begin_held(&under.held).await?;
                let reading = readings::begin(&core, &tx, &under.entry).await?;
                tx.commit(&[]).await?;
                Ok(reading)
            })
            .await
        })
        .await
    }

    async fn abandon(&self, lease: &Lease) -> Result<(), Error> {
        let entry = Arc::clone(&lease.entry);
        self.keep(lease, move |_| vec![readings::drop_unfinished(&entry)]).await
    }

    async fn last_shortfall(&self, lease: &Lease) -> Result<Option<Shortfall>, Error> {
        let under = self.under(lease)?;
        self.detached(move |core| async move {
            let (tx, row) = core.begin_held(&under.held).await?;
            let shortfall = readings::shortfall(&tx, row.line).await?;
            tx.give_up();
            Ok(shortfall)
        })
        .await
    }

    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error> {
        self.keep(lease, move |tx| readings::keep_page(tx, reading, &page)).await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        self.keep(lease, move |_| {
            vec![statement!(
                "UPDATE page SET accounts = $3, size = $4, key = $5 WHERE reading = $1 AND number = $2",
                reading.0,
                i64::from(number),
                accounts.to_vec(),
                codes::signed(accounts.len()),
                None::<i64>,
            )]
        })
        .await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        self.keep(lease, move |_| {
            vec![statement!(
                "UPDATE reading SET resource = $2, key = $3 WHERE id = $1",
                reading.0,
                connection.to_vec(),
                None::<i64>,
            )]
        })
        .await
    }
}

#[async_trait]
impl Shelf for Postgres {
    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        self.0.is_open()?;
        let sql = "SELECT number, size FROM page WHERE reading = $1 ORDER BY number";
        let rows = tx::query(&self.0.pool, statement!(sql, reading.0)).await?;
        let mut pages = Vec::with_capacity(rows.len());
        for row in &rows {
            let number = u32::try_from(row.try_get::<_, i64>("number")?).unwrap_or(u32::MAX);
            pages.push((number, codes::unsigned(row, "size")?.unwrap_or(0)));
        }
        Ok(pages)
    }

    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error> {
        let sql = "SELECT accounts AS stored, key FROM page WHERE reading = $1 AND number = $2";
        let found = open(&self.0, statement!(sql, reading.0, i64::from(number))).await?;
        found.ok_or_else(|| Error::Store("there is no such page".into()))
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        let sql = "SELECT resource AS stored, key FROM reading WHERE id = $1 AND resource IS NOT NULL";
        Ok(open(&self.0, statement!(sql, reading.0)).await?)
    }
}

/// What a query finds as `stored`, with its `key`.
pub(super) async fn open(core: &Core, query: Statement) -> Result<Option<Bytes>, Trouble> {
    core.is_open()?;
    let rows = tx::query(&core.pool, query).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(vault::open(row.try_get("key")?, row.try_get("stored")?)?))
}
