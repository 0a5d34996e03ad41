//! Hands completed events to the integrator's own systems.
//!
//! In: a [`Delivery`], which is attributes and a body of known length. Out: `Ok` once the destination has the delivery by
//! its own measure, or an [`Error`]. An [`Error::Failed`] is the destination's doing and says what follows from it. An
//! [`Error::Unreadable`] is the doing of whoever made the body, and must never be counted against the sink.
//!
//! ```text
//! attributes, body        what a delivery is made of
//! sink                    the interface that every kind implements
//! cloudevent, signature   the forms that the kinds write
//! built                   kinds that a build may leave out
//! template                subjects, keys and headers that are made of attributes
//! tls, fault              whom a sink trusts, and what goes wrong on the way to a server
//! broker                  what the kinds that speak to a broker have in common: connections, batches
//! writer                  the thread that writes lines for `file` and `stdout`
//! kinds                   one folder for each kind, and the one list of them
//! filter                  which events a sink is given: pure
//! settings, slot          a configured sink, and the place where a running one can be exchanged
//! ```
//!
//! Promises, held for every kind by the tests in `contract`:
//! - Whole bodies and bodies in pieces arrive byte for byte. The NDJSON kinds leave out insignificant white space.
//! - A body that cannot be read, or that is not as long as announced, is never delivered, and never the sink's failure.
//! - [`Sink::deliver_many`] answers each delivery by itself.
//!
//! Not here: when to try again (a sink never retries; retries are rows of the inbox), and where bodies come from.

// In builds that leave kinds out.
#![cfg_attr(
    not(all(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis")),
    allow(dead_code, unused_imports, reason = "each kind on a broker uses a part of what they have in common")
)]

mod attributes;
mod body;
#[cfg(feature = "broker")]
mod broker;
mod built;
mod cloudevent;
#[cfg(test)]
mod contract;
mod fault;
mod filter;
#[cfg(test)]
mod fixture;
pub mod kinds;
mod opens;
mod settings;
mod signature;
mod sink;
mod slot;
mod template;
mod tls;
mod writer;

pub use self::settings::{OpenError, Settings, open, rehearse};
pub use attributes::{Attributes, Completion};
pub use base::names::{DeliveryId, SinkName};
pub use body::{Body, BodyError, Pieces, Source};
pub use filter::{Filter, Told};
pub use kinds::Kind;
pub use opens::{Init, Server};
pub use signature::sign;
pub use sink::{Delivery, Error, Failure, FailureKind, Sink};
pub use slot::Slot;
