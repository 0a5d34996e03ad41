//! The receiver inside a program of yours, with a sink of its own: it adds up how many accounts each bank connection has.
//!
//! ```sh
//! printf '[[sink]]\nname = "tally"\ntype = "own"\n' > embed.toml
//! cargo run --example embed
//! ```
//!
//! It listens on 127.0.0.1:8443 with a throwaway certificate, because nothing in `embed.toml` keeps strangers out.

use linxo_webhook::embed::{Delivery, Error, Own, Sink, async_trait, load, start};
use std::{
    collections::HashMap,
    env,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Accounts by bank connection. A real sink keeps this where it outlives the process, before it answers `Ok`.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<HashMap<String, u64>>>);

#[async_trait]
impl Sink for Tally {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let attributes = &delivery.attributes;
        // What comes late says so: what is here already is newer.
        if !attributes.linxostale {
            let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Set, not added: an event may come again.
            tally.insert(attributes.subject.as_str().to_owned(), attributes.linxoaccounts);
        }
        Ok(())
    }
}

impl Tally {
    /// How many accounts there are.
    pub(crate) fn accounts(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tally = Tally::default();
    let config = load(Some(Path::new("embed.toml")), env::vars())?;
    let mut service = start(config, Own::default().with("tally", tally.clone())).await?;
    writeln!(io::stdout(), "listening on {}; end with ctrl-c", service.address)?;
    tokio::signal::ctrl_c().await?;
    service.drain();
    service.ended().await;
    writeln!(io::stdout(), "{} accounts", tally.accounts())?;
    Ok(())
}
