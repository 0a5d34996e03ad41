//! What is done with the stages that get something from the vendor's API, before an entry is delivered.
//!
//! Each kind of fetch is a variant of [`inbox::Fetch`] and a file here: `accounts` gets the accounts that an event left
//! out. `listing` reads one list to its end, `rounds` remembers what was read of it.

mod accounts;
mod listing;
mod rounds;

pub use accounts::Figures;

use super::{credentials::Credentials, pool::Handler, source::Source};
use async_trait::async_trait;
use inbox::{Error, Fetch, Lease, Outcome, Readings, Shelf};
use std::{sync::Arc, time::Duration};

/// Does one kind of fetch.
pub struct Fetcher {
    /// What is fetched.
    pub fetch: Fetch,
    /// From where.
    pub source: Arc<Source>,
    /// Where it is kept.
    pub readings: Arc<dyn Readings>,
    /// What is there already.
    pub shelf: Arc<dyn Shelf>,
    /// Who is told that a user's credentials are good.
    pub credentials: Arc<Credentials>,
    /// What is counted.
    pub figures: Figures,
}

#[async_trait]
impl Handler for Fetcher {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        match self.fetch {
            Fetch::Accounts => accounts::handle(self, lease).await,
        }
    }

    fn pause(&self) -> Option<Duration> {
        self.source.client()?.pause()
    }
}
