//! What is done with the stages that get something from the vendor's API, before an entry is delivered.
//!
//! Each kind of fetch is a variant of [`inbox::Fetch`] and a file here: `accounts` gets the accounts that an event left
//! out. `settling` says how long an event that is ahead of the API waits, `listing` reads one list to its end, `rounds`
//! remembers what was read of it.

mod accounts;
mod fetcher;
mod figures;
mod listing;
mod rounds;
mod settling;

pub use fetcher::Fetcher;
pub use figures::Figures;

use super::pool::Handler;
use async_trait::async_trait;
use inbox::{Error, Fetch, Lease, Outcome};
use std::time::Duration;

#[async_trait]
impl Handler for Fetcher {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        match self.fetch {
            Fetch::Accounts => accounts::handle(self, lease).await,
        }
    }

    fn room(&self) -> (Option<Duration>, usize) {
        self.source.client().map_or((None, usize::MAX), |client| client.room())
    }

    fn crowded(&self, hands: usize) {
        self.crowd.notify_one();
        if let Some(client) = self.source.client() {
            client.set_hands(hands);
            client.make_room();
        }
    }
}
