//! What reloads count.

use crate::observe::metrics::{Outcome, counters, outcome, outcomes};
use base::clock;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

const OK: &str = "ok";
const FAILED: &str = "failed";

/// The figures of reloads.
#[derive(Debug)]
pub struct Figures {
    reloads: Family<Outcome, Counter>,
    /// Whether what was read last cannot be used: 1 or 0.
    failing: Gauge,
    /// Seconds since the epoch.
    reloaded: Gauge,
}

impl Figures {
    /// Enters them in the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let figures =
            Self { reloads: counters(outcomes([OK, FAILED])), failing: Gauge::default(), reloaded: Gauge::default() };
        registry.register("reloads", "Reloads of certificates and secrets by outcome", figures.reloads.clone());
        registry.register(
            "reload_failing",
            "Whether the changed configuration cannot be used, and the last good one is in use",
            figures.failing.clone(),
        );
        registry.register("last_reload_timestamp_seconds", "Last start or successful reload", figures.reloaded.clone());
        figures
    }

    /// What is in use now was read just now: at the start, or by a reload.
    pub(super) fn note_fresh(&self) {
        self.reloaded.set(clock::now().as_seconds());
    }

    /// A reload was applied.
    pub(super) fn succeeded(&self) {
        self.note_fresh();
        self.failing.set(0);
        self.reloads.get_or_create(&outcome(OK)).inc();
    }

    /// What was read cannot be used.
    pub(super) fn failed(&self) {
        self.failing.set(1);
        self.reloads.get_or_create(&outcome(FAILED)).inc();
    }
}
