//! Readings: what was fetched of a connection, page by page, kept so that neither a crash nor a second event of the same
//! connection fetches it again.

use crate::{Error, Found, Lease, ReadingId, Shortfall};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::AccountId;
use std::{fmt, time::Duration};

/// One page of accounts, as kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Position in the list, from 1.
    pub number: u32,
    /// Ids of the connection's accounts on this page.
    pub ids: Vec<AccountId>,
    /// Ids of other connections' accounts on this page.
    pub foreign: Vec<AccountId>,
    /// Items that are on no earlier page.
    pub fresh: u32,
    /// JSON of the accounts that no other kept page holds, joined by commas, without brackets.
    pub accounts: Bytes,
    /// How many items the server sent on this page, before duplicates and foreign accounts were removed.
    pub received: u32,
    /// Items among them that are no accounts.
    pub unusable: u32,
}

/// A reading to work on: found or new.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its number.
    pub id: ReadingId,
    /// When it began.
    pub started: Timestamp,
    /// What it holds, once it is finished.
    pub found: Option<Found>,
    /// Pages kept so far, without their accounts' JSON, by number.
    pub pages: Vec<PageFacts>,
}

/// What a reading knows of a kept page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFacts {
    /// Position in the list, from 1.
    pub number: u32,
    /// Ids of its accounts.
    pub ids: Vec<AccountId>,
    /// Ids of other connections' accounts.
    pub foreign: Vec<AccountId>,
    /// Items that are on no earlier page.
    pub fresh: u32,
    /// Items that the server sent.
    pub received: u32,
    /// Items among them that are no accounts.
    pub unusable: u32,
    /// Bytes of its accounts' JSON.
    pub bytes: u64,
}

/// What fetches need of an inbox. Only who holds the lease may write.
///
/// Every method is cancel safe in this sense: when its future is dropped, the change either happens whole or not at all.
#[async_trait]
pub trait Readings: Send + Sync + fmt::Debug {
    /// Finds the youngest reading for this entry's connection that began after the entry was accepted, if it is finished
    /// or got its last page at most `resume_within` ago; else begins one.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn find_or_begin(&self, lease: &Lease, resume_within: Duration) -> Result<Reading, Error>;

    /// Begins another reading, where the one that was found does not do.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn begin(&self, lease: &Lease) -> Result<Reading, Error>;

    /// Drops what was read of the lease's connection and not finished: it is read anew later.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn abandon(&self, lease: &Lease) -> Result<(), Error>;

    /// What was missing when the lease's connection was last completed.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now.
    async fn last_shortfall(&self, lease: &Lease) -> Result<Option<Shortfall>, Error>;

    /// Keeps a page of the reading that a lease was given; keeping it again replaces it.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another reads that list now; nothing was kept. [`Error::Full`]: the room that is left is for
    /// events.
    async fn keep_page(&self, lease: &Lease, reading: ReadingId, page: Page) -> Result<(), Error>;

    /// Replaces the accounts' JSON of a kept page; what else is known of the page stays.
    ///
    /// # Errors
    /// Those of [`keep_page`](Readings::keep_page).
    async fn replace_accounts(
        &self,
        lease: &Lease,
        reading: ReadingId,
        number: u32,
        accounts: Bytes,
    ) -> Result<(), Error>;

    /// Keeps the connection's own JSON beside the pages of a reading; keeping it again replaces it.
    ///
    /// # Errors
    /// Those of [`keep_page`](Readings::keep_page).
    async fn keep_connection(&self, lease: &Lease, reading: ReadingId, connection: Bytes) -> Result<(), Error>;
}

/// What deliveries need of an inbox: what was read, to be given out.
#[async_trait]
pub trait Shelf: Send + Sync + fmt::Debug {
    /// Numbers and sizes of a reading's pages, by number.
    ///
    /// # Errors
    /// [`Error::Store`]: ask again later.
    async fn pages(&self, reading: ReadingId) -> Result<Vec<(u32, u64)>, Error>;

    /// The accounts' JSON of one page.
    ///
    /// # Errors
    /// [`Error::Store`]: the page is not there, or cannot be read now.
    async fn page(&self, reading: ReadingId, number: u32) -> Result<Bytes, Error>;

    /// The connection's own JSON, where it was kept.
    ///
    /// # Errors
    /// [`Error::Store`]: ask again later.
    async fn connection(&self, reading: ReadingId) -> Result<Option<Bytes>, Error>;
}
