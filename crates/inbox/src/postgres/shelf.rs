//! [`Readings`] and [`Shelf`] on the server: what was fetched goes in under a lease, and comes out for deliveries.

use super::{
    codes, readings,
    store::{Core, Held, Postgres},
    tx::{self, Statement, Trouble, Tx, statement},
    vault::Sealing,
};
use crate::{
    Error, Facts, Lease, Page, Reading, ReadingId, Readings, Shelf, Shortfall,
    seal::{Flaw, Owner, Place},
};
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

    /// Writes under a lease, with the key of whom the entry is of.
    async fn keep(
        &self,
        lease: &Lease,
        write: impl Fn(&Tx, &Sealing, &Owner) -> Result<Vec<Statement>, Flaw> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let under = self.under(lease)?;
        self.detached(move |core| async move {
            let owner = Owner::of_ids(&under.entry.connection, under.entry.user.as_ref());
            tx::until_done(|| async {
                let (tx, _) = core.begin_held(&under.held).await?;
                let sealing = core.vault.sealing([owner.clone()]).await?;
                let mut writes = write(&tx, &sealing, &owner)?;
                writes.extend(core.vault.note(&sealing, tx.slot));
                tx.commit(&writes).await?;
                core.vault.noted(&sealing);
                Ok(())
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
        self.keep(lease, move |_, _, _| Ok(vec![readings::drop_unfinished(&entry)])).await
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
        self.keep(lease, move |tx, sealing, owner| {
            let sealed = sealing.seal(owner, Place::Page(reading.0, page.number), &page.accounts)?;
            Ok(readings::keep_page(tx, reading, &page, sealed))
        })
        .await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        self.keep(lease, move |_, sealing, owner| {
            let sealed = sealing.seal(owner, Place::Page(reading.0, number), &accounts)?;
            Ok(vec![statement!(
                "UPDATE page SET accounts = $3, size = $4, key = $5 WHERE reading = $1 AND number = $2",
                reading.0,
                i64::from(number),
                sealed.bytes.into_owned(),
                codes::signed(accounts.len()),
                sealed.key,
            )])
        })
        .await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        self.keep(lease, move |_, sealing, owner| {
            let sealed = sealing.seal(owner, Place::Resource(reading.0), &connection)?;
            Ok(vec![statement!(
                "UPDATE reading SET resource = $2, key = $3 WHERE id = $1",
                reading.0,
                sealed.bytes.into_owned(),
                sealed.key,
            )])
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
        let sql = "SELECT page.accounts AS stored, page.key, connection, \"user\" FROM page JOIN reading ON reading.id = page.reading
                   WHERE reading = $1 AND number = $2";
        let place = Place::Page(reading.0, number);
        let found = open(&self.0, statement!(sql, reading.0, i64::from(number)), place).await?;
        found.ok_or_else(|| Error::Store("there is no such page".into()))
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        let sql =
            "SELECT resource AS stored, key, connection, \"user\" FROM reading WHERE id = $1 AND resource IS NOT NULL";
        Ok(open(&self.0, statement!(sql, reading.0), Place::Resource(reading.0)).await?)
    }
}

/// What a query finds as `stored`, with its `key`, and whose it is.
pub(super) async fn open(core: &Core, query: Statement, place: Place) -> Result<Option<Bytes>, Trouble> {
    core.is_open()?;
    let rows = tx::query(&core.pool, query).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let key = row.try_get("key")?;
    let opening = core.vault.opening([key]).await?;
    Ok(Some(opening.open(key, &codes::owner(row)?, place, row.try_get("stored")?)?))
}
