//! The operators' listener: is the process alive, is it ready, and what are its figures.
//!
//! Plain HTTP/1.1 on an address of its own, loopback by default, so that nothing of it can be reached through the public
//! listener. `routes` has the table of answers, `serve` the sockets.
//!
//! Promises, held by `tests`:
//! - No answer waits for the store longer than [`STATS_TIME`]. A scrape never fails because the store does: the
//!   store's figures are absent then.
//! - A caller that sends nothing, or never ends, is closed. However many such callers there are, the next one is answered.
//! - A wrong token is answered late, counted, and logged once a minute.
//!
//! Not here: the public listener (`receive`), and pages that show the inbox: the commands under `inbox` do that.

mod figures;
mod routes;
mod serve;
pub mod settings;

pub use figures::Figures;
pub use routes::{Access, Hindrance, STATS_TIME, State};
pub use serve::{Bound, bind, inherit};

#[cfg(test)]
mod tests;
