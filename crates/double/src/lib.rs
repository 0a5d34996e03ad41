//! The vendor double: Linxo's token endpoint and accounts API, with every fault that a network and a vendor can have,
//! and Linxo's other side, which makes events and posts them.
//!
//! In: [`Settings`] with the bank's connections, and a [`Script`] of faults that can be changed while it runs. Out: a
//! server on a real socket, plain or over TLS, and a journal of what it was asked. Tests, the demo, benchmarks and the
//! `simulate` command all use this one double, so that what is tried by hand is what is tested.
//!
//! | file | what |
//! | --- | --- |
//! | `wire` | versions and encodings that the double speaks |
//! | `pki` | throwaway certificates, for the double and for tests |
//! | `accounts` | connections and accounts, and how they come and go |
//! | `faults` | everything that can go wrong with a call |
//! | `script` | which fault on which call; **the file format is documented there** |
//! | `player` | a script being played |
//! | `settings` | how a double behaves |
//! | `token` | `POST /token` |
//! | `state` | what all sockets of one double share, and its journal |
//! | `bodies` | bodies that drip, stall, break or never end |
//! | `routes` | one call, from its head to its answer |
//! | `serve` | sockets, TLS, HTTP |
//! | `servers` | servers of others, with the feature of that name |
//! | `simulator` | a running double |
//! | `events` | webhook events as the vendor sends them |
//! | `cases` | named cases: a few events each, and what they teach a consumer |
//! | `load` | posts events, many at once, and measures |
//!
//! A file uses only files above it in this table.
//!
//! Why a server of our own and not a mocking library: none of those can break a connection in the middle of a body, let
//! a list change between two pages, or run for hours beside a benchmark.

mod accounts;
mod bodies;
pub mod cases;
pub mod events;
mod faults;
pub mod load;
pub mod pki;
mod player;
mod routes;
mod script;
mod serve;
#[cfg(feature = "servers")]
pub mod servers;
mod settings;
mod simulator;
mod state;
mod token;
mod wire;

pub use accounts::{CANARY, Connection, account_id, account_json};
pub use faults::{Endpoint, Fault, Target};
pub use script::{Error as ScriptError, Random, Rule, Script};
pub use settings::{Settings, User};
pub use simulator::Simulator;
pub use state::{Counters, Request};
pub use wire::{ApiVersion, TokenBody};

#[cfg(test)]
mod tests;
