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
#[cfg(all(test, feature = "nats"))]
mod tests;

pub use self::settings::Settings;

#[cfg(feature = "nats")]
use self::sink::reach;
use crate::{
    opens::{Cause, Opens, Server},
    sink::Sink,
};
use std::path::Path;

impl Opens for Settings {
    #[cfg(feature = "nats")]
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(sink::Nats::new(self)?))
    }

    #[cfg(not(feature = "nats"))]
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Err(crate::opens::NotBuilt.into())
    }

    fn server(&self) -> Option<Server> {
        let host = self.servers.iter().map(::settings::urls::Server::authority).collect::<Vec<_>>().join(", ");
        let settings = self.clone();
        Some(Server { host, reach: Box::pin(async move { reach(&settings).await }) })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

#[cfg(not(feature = "nats"))]
#[expect(clippy::unused_async, reason = "stands for one that calls the server")]
async fn reach(_: &Settings) -> Result<Vec<String>, String> {
    Err(crate::opens::NotBuilt.to_string())
}
