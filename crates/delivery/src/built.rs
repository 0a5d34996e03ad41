//! Kinds of sinks that a build may leave out. Their settings are known all the same, and a build without one says so.

use settings::{At, Flaw};

/// Reports a kind whose client library is not part of this build. Its name is that of its cargo feature.
pub(crate) fn must_be_built(at: &mut At<'_, '_>, kind: &str, is_built: bool) {
    if !is_built {
        let hint = format!("build it with `cargo build --release --features {kind}`, or choose another type");
        at.flawed("type", Flaw::new("is not part of this build", hint));
    }
}

/// Why a sink cannot be opened that is not part of this build.
#[cfg(not(all(feature = "postgres", feature = "nats", feature = "amqp", feature = "kafka", feature = "redis")))]
#[derive(Debug, thiserror::Error)]
#[error("sinks of this type are not part of this build")]
pub(crate) struct NotBuilt;
