//! [`Readings`] and [`Shelf`] on the file: what was fetched goes in under a lease, and comes out for deliveries.

use super::{readings, store::Sqlite};
use crate::{Error, Lease, Page, Reading, ReadingId, Readings, Shelf, Shortfall, seal};
use async_trait::async_trait;
use bytes::Bytes;
use event::UserId;
use rusqlite::{OptionalExtension, params};
use std::{sync::Arc, time::Duration};

#[async_trait]
impl Readings for Sqlite {
    async fn find_or_begin(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error> {
        let entry = Arc::clone(&lease.entry);
        self.write_held(lease, move |tx, _| readings::find_or_begin(tx, &entry, resume_within)).await
    }

    async fn begin(&self, lease: &Lease) -> Result<Reading, Error> {
        let entry = Arc::clone(&lease.entry);
        self.write_held(lease, move |tx, _| readings::begin(tx, &entry)).await
    }

    async fn abandon(&self, lease: &Lease) -> Result<(), Error> {
        let entry = Arc::clone(&lease.entry);
        self.write_held(lease, move |tx, _| {
            readings::drop_unfinished(tx, entry.connection.as_str(), entry.user.as_ref().map(UserId::as_str))
        })
        .await
    }

    async fn last_shortfall(&self, lease: &Lease) -> Result<Option<Shortfall>, Error> {
        self.write_held(lease, |tx, row| readings::shortfall(tx.connection, row.line)).await
    }

    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error> {
        // Events come first: what is fetched can be fetched again.
        if !self.space.has_room_to_spare() {
            return Err(Error::Full(None));
        }
        self.write_held(lease, move |tx, _| readings::keep_page(tx, reading, &page)).await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        self.write_held(lease, move |tx, _| {
            tx.connection
                .prepare_cached("UPDATE page SET accounts = ?3, size = ?4 WHERE reading = ?1 AND number = ?2")?
                .execute(params![reading.0, number, seal::seal(&accounts), readings::size(&accounts)])?;
            Ok(())
        })
        .await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        self.write_held(lease, move |tx, _| {
            tx.connection
                .prepare_cached("UPDATE reading SET resource = ?2 WHERE id = ?1")?
                .execute(params![reading.0, seal::seal(&connection)])?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Shelf for Sqlite {
    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT number, coalesce(size, length(accounts)) FROM page WHERE reading = ?1 ORDER BY number",
                )?
                .query_map([reading.0], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
                .collect()
        })
        .await
    }

    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT accounts FROM page WHERE reading = ?1 AND number = ?2")?
                .query_row(params![reading.0, number], |row| row.get(0).map(seal::open))
        })
        .await
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        self.read(move |connection| {
            let json: Option<Option<Vec<u8>>> = connection
                .prepare_cached("SELECT resource FROM reading WHERE id = ?1")?
                .query_row([reading.0], |row| row.get(0))
                .optional()?;
            Ok(json.flatten().map(seal::open))
        })
        .await
    }
}
