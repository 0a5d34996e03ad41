//! A message on a topic of Kafka, acknowledged by all replicas that are in sync.
//!
//! In: deliveries. Out: `Ok` after the acknowledgement. The producer is idempotent, so what librdkafka sends again by itself is
//! stored once and in order. The key is the connection, so all events of a connection are in one partition, in their order.
//! The value is the structured `CloudEvents` document, as the binding for Kafka has it.
//!
//! The cargo feature `kafka` is off by default, because it needs the C library librdkafka, and OpenSSL for TLS.

mod settings;

#[cfg(feature = "kafka")]
mod config;
#[cfg(feature = "kafka")]
mod fault;
#[cfg(feature = "kafka")]
mod sink;
#[cfg(feature = "kafka")]
#[cfg(test)]
mod tests;

pub use self::settings::{Mechanism, Settings};

#[cfg(not(feature = "kafka"))]
impl crate::opens::Opens for Settings {
    fn open(&self) -> Result<Box<dyn crate::Sink>, crate::opens::Cause> {
        Err(crate::built::NotBuilt.into())
    }
}
