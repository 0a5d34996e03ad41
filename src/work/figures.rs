//! What deliveries and sinks count.

use crate::observe::metrics::{long_seconds, seconds};
use base::clock::{self, Timestamp};
use inbox::Outcome;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

const DELIVERED: &str = "delivered";
const STALE: &str = "stale";
const FILTERED: &str = "filtered";
const RETRY: &str = "retry";
const PARKED: &str = "parked";

/// What deliveries count.
#[derive(Clone, Debug)]
pub struct Figures {
    deliveries: Family<Ended, Counter>,
    seconds: Family<To, Histogram, fn() -> Histogram>,
    since_accepted: Family<To, Histogram, fn() -> Histogram>,
    breaker_open: Family<To, Gauge>,
    failing_since: Family<To, Gauge>,
    paused: Family<To, Gauge>,
    resumed: Family<To, Counter>,
    merged: Family<To, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    /// Configured name.
    sink: String,
    /// `delivered`, `stale`, `filtered`, `retry`, `parked`
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    /// Configured name.
    sink: String,
}

/// The figures of one sink's state.
#[derive(Clone, Debug)]
pub struct SinkFigures {
    /// Whether it is left alone: 1 or 0.
    pub(super) breaker_open: Gauge,
    /// Since when every delivery failed, in seconds since the epoch; 0: it does not fail.
    pub(super) failing_since: Gauge,
    /// Whether an operator has it paused: 1 or 0.
    pub(super) paused: Gauge,
    /// Deliveries that went back in line by themselves.
    pub(super) resumed: Counter,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            deliveries: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            since_accepted: Family::new_with_constructor(long_seconds),
            breaker_open: Family::default(),
            failing_since: Family::default(),
            paused: Family::default(),
            resumed: Family::default(),
            merged: Family::default(),
        };
        registry.register("deliveries", "Delivery attempts by sink and outcome", this.deliveries.clone());
        registry.register_with_unit("delivery", "Duration of delivery attempts", Unit::Seconds, this.seconds.clone());
        registry.register_with_unit(
            "accepted_to_delivered",
            "From the acceptance of an event to its delivery",
            Unit::Seconds,
            this.since_accepted.clone(),
        );
        registry.register(
            "sink_failing_since_timestamp_seconds",
            "Since when every delivery to a sink failed; 0: it does not fail",
            this.failing_since.clone(),
        );
        registry.register(
            "sink_breaker_open",
            "Whether a sink is left alone because it failed or asked for a rest",
            this.breaker_open.clone(),
        );
        registry.register("sink_paused", "Whether an operator has a sink paused", this.paused.clone());
        registry.register(
            "deliveries_resumed",
            "Parked deliveries that went back in line by themselves when their sink was well again",
            this.resumed.clone(),
        );
        registry.register(
            "entries_merged",
            "Entries that were delivered together with others as one delivery",
            this.merged.clone(),
        );
        this
    }

    /// Those of one sink's state. All figures of the sink are there from then on.
    #[must_use]
    pub fn of_sink(&self, sink: &str) -> SinkFigures {
        let to = To { sink: sink.to_owned() };
        for outcome in [DELIVERED, STALE, FILTERED, RETRY, PARKED] {
            drop(self.deliveries.get_or_create(&Ended { sink: sink.to_owned(), outcome }));
        }
        drop(self.seconds.get_or_create(&to));
        drop(self.since_accepted.get_or_create(&to));
        drop(self.merged.get_or_create(&to));
        SinkFigures {
            breaker_open: self.breaker_open.get_or_create(&to).clone(),
            failing_since: self.failing_since.get_or_create(&to).clone(),
            paused: self.paused.get_or_create(&to).clone(),
            resumed: self.resumed.get_or_create(&to).clone(),
        }
    }

    /// Counts the end of an attempt at the delivery of an event that was accepted then.
    pub(super) fn count(&self, sink: &str, outcome: &Outcome, took: Duration, accepted: Timestamp) {
        let to = To { sink: sink.to_owned() };
        if matches!(outcome, Outcome::Done) {
            let age = clock::now().since(accepted);
            self.since_accepted.get_or_create(&to).observe(age.as_secs_f64());
        }
        let outcome = match outcome {
            Outcome::Done => DELIVERED,
            Outcome::Superseded => STALE,
            Outcome::Filtered { .. } => FILTERED,
            Outcome::Park { .. } => PARKED,
            _ => RETRY,
        };
        // What was left out was no attempt.
        if !matches!(outcome, STALE | FILTERED) {
            self.seconds.get_or_create(&to).observe(took.as_secs_f64());
        }
        self.deliveries.get_or_create(&Ended { sink: sink.to_owned(), outcome }).inc();
    }

    /// Counts the entries of one delivery, where there are several.
    pub(super) fn merged(&self, sink: &str, entries: usize) {
        if entries > 0 {
            self.merged.get_or_create(&To { sink: sink.to_owned() }).inc_by(entries as u64);
        }
    }

    #[cfg(test)]
    pub(super) fn counted(&self, sink: &str, outcome: &'static str) -> u64 {
        self.deliveries.get_or_create(&Ended { sink: sink.to_owned(), outcome }).get()
    }
}
