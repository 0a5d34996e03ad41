//! The engine of `/metrics`: one registry in which each module enters the figures that it counts, and the text of them.
//!
//! In: at the start, one call of `Figures::new(&mut registry)` for each module that counts something (its own `figures.rs`
//! has names, help and labels). Out: the OpenMetrics text. A figure is cheap to update from anywhere, and its handle is
//! shared with the registry, so nobody needs the registry to count.
//!
//! Three rules hold for all figures. Label values come from closed sets (outcomes, reasons, configured sink names), and never
//! from what a caller sent. Every value of a closed set is there as 0 from the start: a counter that is born at its first
//! increment hides that increment from `increase()`, and so from an alert. Names follow OpenMetrics: base units, and `_total`
//! for counters, which the library adds. `tests/it/metrics.rs` compares all of them with `docs/metrics.md`.
//!
//! Why no registry of the whole process, as many libraries have it: two services in one test would count into one.

use super::process;
use base::clock::Timestamp;
use prometheus_client::{
    encoding::{
        EncodeLabelSet, EncodeMetric, MetricEncoder,
        text::{encode_eof, encode_registry},
    },
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// What every name begins with.
const PREFIX: &str = "linxo_webhook";

/// Bounds of the classes of durations, in seconds.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the classes of durations that may be days, in seconds.
const LONG: [f64; 15] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 21_600.0, 86_400.0];

/// A histogram of durations, in seconds.
#[must_use]
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// A histogram of durations that may be days, in seconds.
#[must_use]
pub fn long_seconds() -> Histogram {
    Histogram::new(LONG)
}

/// Counters of a closed set, all of them there from the start.
pub fn counters<L>(labels: impl IntoIterator<Item = L>) -> Family<L, Counter>
where
    L: Clone + Eq + Hash,
{
    let family = Family::default();
    for label in labels {
        drop(family.get_or_create(&label));
    }
    family
}

/// An outcome of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    outcome: &'static str,
}

/// These outcomes as labels.
#[must_use]
pub fn outcomes<const N: usize>(words: [&'static str; N]) -> [Outcome; N] {
    words.map(|outcome| Outcome { outcome })
}

/// The label of one outcome.
#[must_use]
pub const fn outcome(outcome: &'static str) -> Outcome {
    Outcome { outcome }
}

/// The latest of several moments, in seconds since the epoch; absent until one is known. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Latest(Arc<AtomicI64>);

impl Latest {
    /// Takes in a moment; an earlier one than is known changes nothing.
    pub fn note(&self, at: Timestamp) {
        self.0.fetch_max(at.as_seconds(), Ordering::Relaxed);
    }
}

impl EncodeMetric for Latest {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// An empty registry, for the modules to enter their figures.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    process::register_build(&mut registry);
    super::log::register(&mut registry);
    registry
}

/// All figures of a service, to be read.
#[derive(Debug)]
pub struct Exposition {
    service: Registry,
    /// Under the names that every program of every language uses, so without our prefix.
    process: Registry,
}

impl Exposition {
    /// Of a registry that is complete.
    #[must_use]
    pub fn new(service: Registry) -> Self {
        let mut process = Registry::default();
        process::register(&mut process);
        Self { service, process }
    }

    /// All figures in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let encoded = encode_registry(&mut text, &self.process)
            .and_then(|()| encode_registry(&mut text, &self.service))
            .and_then(|()| encode_eof(&mut text));
        // Writing into a String does not fail.
        if encoded.is_err() {
            text.clear();
        }
        text
    }
}
