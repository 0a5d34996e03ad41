//! Publishes to NATS: one message for each event, acknowledged by the JetStream stream that keeps it.
//!
//! In: deliveries. Out: `Ok` after the stream's acknowledgement (`PubAck`), which a stream on files sends when it has the message.
//! `Nats-Msg-Id` is the delivery id, so a stream drops repeats within its `duplicate_window`, and says that they are
//! delivered. Core NATS without a stream is never a success: nobody acknowledges, and the reason says so.
//!
//! The client library's reconnecting is not used (see `crate::broker`). The server tells of forbidden subjects apart from the
//! message that it drops; the connection passes that on to whoever waits for that subject, so that nobody waits in vain.

#[cfg(feature = "nats")]
mod connection;
#[cfg(feature = "nats")]
mod fault;
mod settings;
#[cfg(feature = "nats")]
mod sink;
#[cfg(feature = "nats")]
#[cfg(test)]
mod tests;

pub use self::settings::Settings;

#[cfg(not(feature = "nats"))]
impl crate::opens::Opens for Settings {
    fn open(&self) -> Result<Box<dyn crate::Sink>, crate::opens::Cause> {
        Err(crate::built::NotBuilt.into())
    }
}
