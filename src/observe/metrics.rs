//! The engine of `/metrics`: one registry in which each module enters the figures that it counts, and the text of them.
//!
//! In: at the start, one call of `Figures::new(&mut registry)` for each module that counts something (its own `figures.rs`
//! has names, help and labels). Out: the OpenMetrics text. A figure is cheap to update from anywhere, and its handle is
//! shared with the registry, so nobody needs the registry to count.
//!
//! Two rules hold for all figures. Label values come from closed sets (outcomes, reasons, configured sink names), and never
//! from what a caller sent. Names follow OpenMetrics: base units, and `_total` for counters, which the library adds.
//!
//! Why no registry of the whole process, as many libraries have it: two services in one test would count into one.

use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

/// What every name begins with.
const PREFIX: &str = "linxo_webhook";

/// Bounds of the classes of durations, in seconds.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A histogram of durations, in seconds.
#[must_use]
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// An empty registry, for the modules to enter their figures.
#[must_use]
pub fn registry() -> Registry {
    Registry::with_prefix(PREFIX)
}

/// All figures of a service, to be read.
#[derive(Debug)]
pub struct Exposition(Registry);

impl Exposition {
    /// Of a registry that is complete.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(registry)
    }

    /// All figures in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        if prometheus_client::encoding::text::encode(&mut text, &self.0).is_err() {
            text.clear();
        }
        text
    }
}
