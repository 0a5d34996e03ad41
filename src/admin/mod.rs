//! The operators' listener: is the process alive, is it ready, and what are its figures.
//!
//! HTTP/1.1, over TLS where it is configured, on an address of its own, loopback by default, so that nothing of it can be reached
//! through the public listener. Probes need nothing, figures a token where there is one, everything else somebody who is known.
//!
//! ```text
//! settings, access             who may: tokens, client certificates, names of the host
//! caller, sessions, failures   who is at the other end, who is logged in, who guesses
//! problem, seldom              refusals, and lines of the log that are said once a minute
//! door                         what every request passes before it is answered
//! charts                       what happened, minute by minute
//! receivers                    who takes events, as each says itself
//! desk                         the inbox and the running work
//! acts                         what changes or reveals something, after it was written to the audit trail
//! streams                      answers that go on
//! api, page                    for programs, for people
//! routes, serve                the paths, the sockets
//! ```
//!
//! Promises, held by `tests`:
//! - No answer waits for the store longer than [`STATS_TIME`]. A scrape never fails because the store does: the
//!   store's figures are absent then.
//! - A caller that sends nothing, or never ends, is closed. However many such callers there are, the next one is answered.
//! - A wrong token is answered late, counted, and logged once a minute. Whoever fails to log in often has to wait.
//! - Nothing is changed for a page of another origin, and nothing is answered under a name that is none of ours.
//!
//! Not here: the public listener (`receive`).

mod access;
mod acts;
mod api;
mod caller;
mod charts;
mod desk;
mod door;
mod failures;
mod figures;
mod page;
mod problem;
mod receivers;
mod routes;
mod serve;
mod sessions;
pub mod settings;
mod streams;

pub use access::{Access, Guards};
pub use charts::record;
pub use desk::{Certificates, Desk};
pub use figures::Figures;
pub use receivers::report;
pub use routes::{Hindrance, STATS_TIME, State};
pub use serve::{Bound, bind, inherit};

#[cfg(test)]
mod tests;
