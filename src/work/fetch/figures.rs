//! What fetches of accounts count.

use inbox::{Facts, Lease, Outcome};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// What fetches of accounts count.
#[derive(Clone, Debug)]
pub struct Figures {
    completions: Family<Completed, Counter>,
    seconds: Histogram,
    mismatch: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Completed {
    /// `completed`, `gone`, `retry`, `parked`, `paused`
    outcome: &'static str,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            completions: Family::default(),
            seconds: crate::observe::metrics::seconds(),
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
            Outcome::Retry { .. } => "retry",
            Outcome::Gone => "gone",
            Outcome::Postpone { .. } => "paused",
            Outcome::Park { .. } => "parked",
            Outcome::Fetched { .. } | Outcome::Done | Outcome::Superseded | Outcome::GiveBack => "completed",
        };
        self.completions.get_or_create(&Completed { outcome }).inc();
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
