//! What reloads count.

use base::clock;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// `ok`, `failed`.
    outcome: &'static str,
}

/// The figures of reloads.
#[derive(Debug)]
pub struct Figures {
    reloads: Family<Outcome, Counter>,
    /// Seconds since the epoch.
    reloaded: Gauge,
}

impl Figures {
    /// Enters them in the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self { reloads: Family::default(), reloaded: Gauge::default() };
        registry.register("reloads", "Reloads of certificates and secrets by outcome", figures.reloads.clone());
        registry.register("last_reload_timestamp_seconds", "Last start or successful reload", figures.reloaded.clone());
        figures
    }

    /// What is in use now was read just now: at the start, or by a reload.
    pub(super) fn note_fresh(&self) {
        self.reloaded.set(clock::now().as_millis().div_euclid(1000));
    }

    /// A reload was applied.
    pub(super) fn succeeded(&self) {
        self.note_fresh();
        self.reloads.get_or_create(&Outcome { outcome: "ok" }).inc();
    }

    /// What was read cannot be used.
    pub(super) fn failed(&self) {
        self.reloads.get_or_create(&Outcome { outcome: "failed" }).inc();
    }
}
