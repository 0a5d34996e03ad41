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
#[cfg(feature = "redis")]
#[cfg(test)]
mod tests;

pub use self::settings::Settings;

#[cfg(not(feature = "redis"))]
impl crate::opens::Opens for Settings {
    fn open(&self) -> Result<Box<dyn crate::Sink>, crate::opens::Cause> {
        Err(crate::built::NotBuilt.into())
    }
}
