//! Publishes to RabbitMQ (AMQP 0-9-1): one persistent message for each event, confirmed by the broker.
//!
//! In: deliveries. Out: `Ok` after the publisher confirm of a message that was routed. Messages are mandatory: one that no queue
//! takes comes back, and is a failure. For durable queues a confirm means that the message is on the broker's disk.
//!
//! Each batch has a channel to itself, because the broker answers a forbidden or oversized message by closing the channel, and
//! with it everything that is under way there. Then the deliveries of that batch are made once more, one by one, so that each
//! gets the answer that is its own. A missing exchange is found before by asking for it on another channel.
//!
//! Sockets and TLS are ours (`crate::broker`). The library's threads are told to end by closing the socket under them.

#[cfg(feature = "amqp")]
mod connection;
#[cfg(feature = "amqp")]
mod fault;
mod settings;
#[cfg(feature = "amqp")]
mod sink;
#[cfg(feature = "amqp")]
mod socket;
#[cfg(feature = "amqp")]
#[cfg(test)]
mod tests;

pub use self::settings::Settings;

#[cfg(not(feature = "amqp"))]
impl crate::opens::Opens for Settings {
    fn open(&self) -> Result<Box<dyn crate::Sink>, crate::opens::Cause> {
        Err(crate::built::NotBuilt.into())
    }
}
