//! The vendor's words as types: bytes in, [`Event`] out. Pure; no I/O, no clock.
//!
//! Two layers, by intent. The envelope is strict: what makes an event addressable (`id`, `event_type`,
//! `resource_type`, `resource.id`) must be there, or the body is refused as [`Malformed`]. The inside is lenient:
//! what cannot be typed is [`Drift`], and the event is still kept, completed and handed on, because each refusal may be a
//! lost event (the vendor publishes no retry policy). Completion needs the connection, a number of accounts that can be read
//! as a whole number, and no accounts in the event; nothing else in it can be in the way. The bytes themselves are never
//! rewritten: [`splice`] fills `resource.accounts` in place, so member order, digits and unknown members reach the receiver
//! untouched.
//!
//! Sources: the vendor's page, <https://developers.oxlin.io/docs/accounts-integration-webhooks-continuous>, and sections 4
//! and 6 of `docs/linxo-api.md`.

mod event;
mod flag;
mod ids;
mod lenient;
mod malformed;
mod noted;
mod parse;
mod scan;
mod splice;
mod typed;
pub mod wire;

pub use event::{Drift, Event, Shape, cloud_type};
pub use flag::with_new_transactions;
pub use ids::{AccountId, ChannelDefinitionId, ConnectionId, EventId, MAX_ID, UserId};
pub use malformed::Malformed;
pub use parse::{MAX_DEPTH, is_deeper_in_an_event, without_mark};
pub use scan::{Compact, compact};
pub use splice::{Splice, SpliceError, splice};

#[cfg(test)]
mod tests;
