//! What the kinds that speak to a broker have in common. Each of them only connects, hands over one message, and says what an
//! answer means.
//!
//! ```text
//! dial        TCP and TLS to a server, to addresses that were judged
//! link        the one connection of a sink: made when it is needed, made anew when it broke
//! batch       deliveries become messages, in order; all are handed over before the first acknowledgement is waited for
//! ```
//!
//! In: deliveries. Out: `Ok` for those that the broker acknowledged. No retries here: a client library's own reconnecting and
//! resending is switched off, because a delivery that failed is a row of the inbox, and comes again with its id.

mod batch;
mod dial;
mod link;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use batch::{Acknowledged, Batch, Message, Publish, too_large};
pub(crate) use dial::{Dial, Socket, could_not_connect};
pub(crate) use link::{Link, Live};

/// What messages say of their content (CloudEvents 1.0, structured mode).
pub(crate) const CONTENT_TYPE: &str = "application/cloudevents+json";
/// What the sinks call themselves.
pub(crate) const NAME: &str = "linxo-webhook";
