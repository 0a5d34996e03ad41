//! Appends to a Redis stream: one entry for each event (`XADD`), without a cap unless one is configured.
//!
//! In: deliveries. Out: `Ok` after the server has answered with the entry's number. How durable that is, is for the server to
//! say: it answers from memory, and only with `appendonly yes` and `appendfsync always` is the entry on its disk by then.
//! So the sink looks at these settings when it connects, and warns unless both are set. A server that shows its settings to
//! nobody, as managed ones do, is warned of too, since nothing can be seen.
//!
//! An entry has the fields `id`, `content-type` and `event` (the document). A repeat is another entry with the same `id`.
//! Not here: Redis Cluster and Sentinel. One server is called, or what stands in front of several.

#[cfg(feature = "redis")]
mod connection;
#[cfg(feature = "redis")]
mod fault;
mod settings;
#[cfg(feature = "redis")]
mod sink;
#[cfg(all(test, feature = "redis"))]
mod tests;

pub use self::settings::Settings;

#[cfg(feature = "redis")]
use self::sink::reach;
use crate::{
    opens::{Cause, Opens, Server},
    sink::Sink,
};
use std::path::Path;

impl Opens for Settings {
    #[cfg(feature = "redis")]
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(sink::Redis::new(self)?))
    }

    #[cfg(not(feature = "redis"))]
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Err(crate::opens::NotBuilt.into())
    }

    fn server(&self) -> Option<Server> {
        let settings = self.clone();
        Some(Server { host: self.server.authority(), reach: Box::pin(async move { reach(&settings).await }) })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

#[cfg(not(feature = "redis"))]
#[expect(clippy::unused_async, reason = "stands for one that calls the server")]
async fn reach(_: &Settings) -> Result<Vec<String>, String> {
    Err(crate::opens::NotBuilt.to_string())
}
