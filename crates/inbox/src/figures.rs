//! What is shown of an inbox in the metrics.

use crate::Stats;
use base::clock;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// The figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Figures {
    entries: Family<Labels, Gauge>,
    oldest: Gauge,
    size: Gauge,
    log: Gauge,
    journal: Gauge,
    unfolded: Gauge,
    stuck: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// `completion` or the sink's name.
    stage: String,
    /// `waiting`, `leased`, `parked`
    state: &'static str,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            entries: Family::default(),
            oldest: Gauge::default(),
            size: Gauge::default(),
            log: Gauge::default(),
            journal: Gauge::default(),
            unfolded: Gauge::default(),
            stuck: Gauge::default(),
        };
        registry.register("inbox_entries", "Unfinished and parked work by stage and state", this.entries.clone());
        registry.register_with_unit(
            "inbox_oldest_unfinished",
            "Age of the oldest unfinished entry",
            Unit::Seconds,
            this.oldest.clone(),
        );
        registry.register_with_unit("inbox_size", "Size of the store on disk", Unit::Bytes, this.size.clone());
        registry.register_with_unit("inbox_log", "Size of the write-ahead log", Unit::Bytes, this.log.clone());
        registry.register_with_unit("inbox_journal", "Size of the journal on disk", Unit::Bytes, this.journal.clone());
        registry.register(
            "inbox_unfolded",
            "Accepted events that are in the journal and not yet in the store",
            this.unfolded.clone(),
        );
        registry.register(
            "inbox_fold_stuck",
            "1: accepted events cannot be moved from the journal into the store",
            this.stuck.clone(),
        );
        this
    }

    /// Replaces the figures. Whoever reads them meanwhile may see them half replaced, so readers are kept out by the caller.
    pub fn show(&self, stats: &Stats) {
        // A stage that is gone must not keep its last figure.
        self.entries.clear();
        for (stage, counts) in &stats.stages {
            for (state, count) in [("waiting", counts.waiting), ("leased", counts.leased), ("parked", counts.parked)] {
                self.entries.get_or_create(&Labels { stage: stage.to_string(), state }).set(gauge(count));
            }
        }
        let oldest = stats.oldest_unfinished.map_or(Duration::ZERO, |accepted| clock::now().since(accepted));
        self.oldest.set(gauge(oldest.as_secs()));
        self.size.set(gauge(stats.size_bytes));
        self.log.set(gauge(stats.log_bytes));
        self.journal.set(gauge(stats.journal_bytes));
        self.unfolded.set(gauge(stats.unfolded));
        self.stuck.set(i64::from(stats.is_fold_stuck));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
