//! [`Readings`] and [`Shelf`] on the file: what was fetched goes in under a lease, and comes out for deliveries.

use super::{readings, store::Sqlite};
use crate::{
    Error, Lease, Page, Reading, ReadingId, Readings, Shelf, Shortfall,
    seal::{Owner, Place},
};
use async_trait::async_trait;
use bytes::Bytes;
use event::UserId;
use rusqlite::{OptionalExtension, Row, params};
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
        let (owner, seal) = (owner(lease), Arc::clone(&self.seal));
        self.write_held(lease, move |tx, _| readings::keep_page(tx, reading, &page, &seal, &owner)).await
    }

    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error> {
        let (owner, seal) = (owner(lease), Arc::clone(&self.seal));
        self.write_held(lease, move |tx, _| {
            let sealed = seal.seal(&owner, Place::Page(reading.0, number), &accounts)?;
            tx.connection
                .prepare_cached(
                    "UPDATE page SET accounts = ?3, size = ?4, key = ?5 WHERE reading = ?1 AND number = ?2",
                )?
                .execute(params![reading.0, number, sealed.bytes, readings::size(&accounts), sealed.key])?;
            Ok(())
        })
        .await
    }

    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error> {
        let (owner, seal) = (owner(lease), Arc::clone(&self.seal));
        self.write_held(lease, move |tx, _| {
            let sealed = seal.seal(&owner, Place::Resource(reading.0), &connection)?;
            tx.connection
                .prepare_cached("UPDATE reading SET resource = ?2, key = ?3 WHERE id = ?1")?
                .execute(params![reading.0, sealed.bytes, sealed.key])?;
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
        let seal = Arc::clone(&self.seal);
        self.read(move |connection| {
            let (accounts, key, owner): (Vec<u8>, Option<i64>, Owner) = connection
                .prepare_cached(
                    "SELECT page.accounts, page.key, connection, user FROM page JOIN reading ON reading.id = page.reading
                     WHERE reading = ?1 AND number = ?2",
                )?
                .query_row(params![reading.0, number], |row| Ok((row.get(0)?, row.get(1)?, owner_at(row, 2)?)))?;
            Ok(seal.open(key, &owner, Place::Page(reading.0, number), accounts)?)
        })
        .await
    }

    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error> {
        let seal = Arc::clone(&self.seal);
        self.read(move |connection| {
            let found: Option<(Option<Vec<u8>>, Option<i64>, Owner)> = connection
                .prepare_cached("SELECT resource, key, connection, user FROM reading WHERE id = ?1")?
                .query_row([reading.0], |row| Ok((row.get(0)?, row.get(1)?, owner_at(row, 2)?)))
                .optional()?;
            let Some((Some(resource), key, owner)) = found else { return Ok(None) };
            Ok(Some(seal.open(key, &owner, Place::Resource(reading.0), resource)?))
        })
        .await
    }
}

/// Whose data is fetched under a lease.
fn owner(lease: &Lease) -> Owner {
    Owner::of_ids(&lease.entry.connection, lease.entry.user.as_ref())
}

/// The owner that the columns `connection` and `user` name.
fn owner_at(row: &Row<'_>, index: usize) -> rusqlite::Result<Owner> {
    Ok(Owner::new(&row.get::<_, String>(index)?, row.get::<_, Option<String>>(index + 1)?.as_deref()))
}
