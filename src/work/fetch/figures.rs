//! What fetches of accounts count.

use crate::observe::metrics::{self, counters, outcomes};
use inbox::{Facts, Lease, Outcome};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

const COMPLETED: &str = "completed";
const GONE: &str = "gone";
const RETRY: &str = "retry";
const PAUSED: &str = "paused";
const PARKED: &str = "parked";
const UNNEEDED: &str = "unneeded";

/// What fetches of accounts count.
#[derive(Clone, Debug)]
pub struct Figures {
    completions: Family<metrics::Outcome, Counter>,
    seconds: Histogram,
    mismatch: Counter,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            completions: counters(outcomes([COMPLETED, GONE, RETRY, PAUSED, PARKED, UNNEEDED])),
            seconds: metrics::seconds(),
            mismatch: Counter::default(),
        };
        registry.register("completions", "Completions by outcome", this.completions.clone());
        registry.register_with_unit(
            "completion",
            "From the start of a completion to its end",
            Unit::Seconds,
            this.seconds.clone(),
        );
        registry.register(
            "account_mismatch",
            "Deliveries whose number of accounts differs from the announced one",
            this.mismatch.clone(),
        );
        this
    }

    pub(super) fn count(&self, lease: &Lease, took: Duration, outcome: &Outcome) {
        if differs(&lease.entry, outcome) {
            self.mismatch.inc();
        }
        self.seconds.observe(took.as_secs_f64());
        let outcome = match outcome {
            Outcome::Retry { .. } => RETRY,
            Outcome::Gone => GONE,
            Outcome::Postpone { .. } | Outcome::GiveBack => PAUSED,
            Outcome::Park { .. } => PARKED,
            Outcome::Unneeded => UNNEEDED,
            Outcome::Fetched { .. }
            | Outcome::Done
            | Outcome::Superseded
            | Outcome::Filtered { .. }
            | Outcome::Unfetched => COMPLETED,
        };
        self.completions.get_or_create(&metrics::outcome(outcome)).inc();
    }
}

/// Whether what is delivered differs from what the event announced, or may hold what is gone.
fn differs(entry: &Facts, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Fetched { found, .. } => found.differs(entry),
        Outcome::Gone => true,
        _ => false,
    }
}
