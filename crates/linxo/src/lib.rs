//! The vendor's API, as far as this service needs it: tokens, connections, and pages of accounts.
//!
//! There is no trait: tests point the client at the vendor's double (the crate `double`) over a real socket. Facts about the
//! API name their section of `docs/linxo-api.md`; few are documented by the vendor, so what is uncertain is configuration.
//!
//! | module | what |
//! | --- | --- |
//! | [`settings`] | what a client is told |
//! | [`users`] | the table of users' passwords |
//! | [`credentials`] | credentials that were not good enough, and what they are recognised by |
//! | `error` | why the API did not give what was asked, and what that means for trying again |
//! | `exchange` | what is told of each call |
//! | `figures` | what is counted for `/metrics` |
//! | `lane` | one server: whether a call may be made now, and how calls ended |
//! | `code` | the vendor's own code in an error answer |
//! | `coding` | answers that come packed |
//! | `transport` | the way to a server, and the reading of its answers |
//! | `tokens` | access tokens by user |
//! | `accounts`, `connection` | answers as types |
//! | `client` | everything together |
//!
//! A module uses only modules above it in this table.

mod accounts;
mod client;
mod code;
mod coding;
mod connection;
pub mod credentials;
mod error;
mod exchange;
mod figures;
mod keyed;
mod lane;
mod segment;
pub mod settings;
mod tokens;
mod transport;
mod trial;
pub mod users;

pub use accounts::{Account, AccountsPage};
pub use client::{Bounds, Client};
pub use connection::Connection;
pub use error::{Disposition, Error, Missing, Peer};
pub use exchange::{Exchange, Told, untold};
pub use figures::Figures;
pub use trial::{Skew, Tried, skews, try_out};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
