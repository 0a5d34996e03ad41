//! The service inside another program, with sinks of that program's own.
//!
//! ```no_run
//! use linxo_webhook::embed::{Delivery, Error, Own, Sink, async_trait, load, start};
//!
//! struct Ledger;
//!
//! #[async_trait]
//! impl Sink for Ledger {
//!     async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
//!         // Store it, once for each `delivery.attributes.id`. `Ok` means that it will never come again.
//!         Ok(())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // [[sink]] name = "ledger", type = "own"
//! let config = load(Some("linxo-webhook.toml".as_ref()), std::env::vars())?;
//! let mut service = start(config, Own::default().with("ledger", Ledger)).await?;
//! // ... until the program ends:
//! service.drain();
//! service.ended().await;
//! # Ok(())
//! # }
//! ```
//!
//! Everything else is as in the program `linxo-webhook`: durable before answered, in order for each connection, tried again,
//! parked. What a sink must do stands at [`Sink`]. `examples/embed.rs` is a whole program.

pub use crate::{
    app::{Ended, Error as StartError, Own, Running},
    config::{Config, load},
};
pub use async_trait::async_trait;
pub use delivery::{Attributes, Body, BodyError, Completion, Delivery, Error, Failure, FailureKind, Sink};

use crate::{app, supervisor::Sockets};

/// Starts the service. It runs until [`Running::drain`]; the log is the program's own (`tracing`).
///
/// # Errors
/// [`StartError`], before anything was accepted.
pub async fn start(config: Config, own: Own) -> Result<Running, StartError> {
    // TLS needs one provider for the whole process; one that the program chose stays.
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
    app::start_with(config, Sockets::default(), own).await
}
