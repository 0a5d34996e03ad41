//! What becomes of spans.

use crate::observe::metrics::{Outcome, counters, outcome, outcomes};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// The collector has them.
const EXPORTED: &str = "exported";
/// There was no room for them in the queue, or no time at the end.
const DROPPED: &str = "dropped";
/// The collector could not be reached, or did not take their export.
const FAILED: &str = "failed";
/// The collector took the rest of their export, and not these.
const REJECTED: &str = "rejected";

/// Recorded spans, by what became of them.
#[derive(Clone, Debug)]
pub(super) struct Figures(Family<Outcome, Counter>);

impl Figures {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self(counters(outcomes([EXPORTED, DROPPED, FAILED, REJECTED])));
        registry.register("trace_spans", "Recorded spans of traces by what became of them", this.0.clone());
        this
    }

    pub(super) fn exported(&self, count: u64) {
        self.count(EXPORTED, count);
    }

    pub(super) fn dropped(&self, count: u64) {
        self.count(DROPPED, count);
    }

    pub(super) fn failed(&self, count: u64) {
        self.count(FAILED, count);
    }

    pub(super) fn rejected(&self, count: u64) {
        self.count(REJECTED, count);
    }

    fn count(&self, word: &'static str, count: u64) {
        self.0.get_or_create(&outcome(word)).inc_by(count);
    }
}
