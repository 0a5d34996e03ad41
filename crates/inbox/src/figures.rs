//! What is shown of an inbox in the metrics.
//!
//! The figures are taken over as one whole ([`Figures::show`]), so that nobody sees half of them. What is not known is absent
//! ([`Figures::forget`]): a 0 would say that nothing waits.

use crate::{Settings, Stage, Stats};
use base::{clock, sync::lock};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Figures(Arc<Shown>);

/// What the store is limited to, by the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Unfinished entries (`inbox.max_waiting`).
    pub waiting: u64,
    /// Bytes that must stay free on the disk (`inbox.min_free_disk`).
    pub free_bytes: u64,
}

impl From<&Settings> for Limits {
    fn from(settings: &Settings) -> Self {
        Self { waiting: settings.max_waiting, free_bytes: settings.min_free_disk }
    }
}

#[derive(Debug)]
struct Shown {
    limits: Limits,
    stats: Mutex<Option<Stats>>,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry, limits: Limits) -> Self {
        let this = Self(Arc::new(Shown { limits, stats: Mutex::default() }));
        registry.register_collector(Box::new(this.clone()));
        this
    }

    /// Replaces the figures.
    pub fn show(&self, stats: Stats) {
        *lock(&self.0.stats) = Some(stats);
    }

    /// Nothing is known any more: the inbox could not tell its figures in time.
    pub fn forget(&self) {
        *lock(&self.0.stats) = None;
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let limits = self.0.limits;
        let mut gauge = |name, help, unit: Option<&Unit>, value: u64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        gauge("inbox_max_waiting", "Unfinished entries above which events are refused", None, limits.waiting)?;
        let help = "Free space on the disk that takes events below which they are refused";
        gauge("inbox_min_free", help, Some(&Unit::Bytes), limits.free_bytes)?;
        let stats = lock(&self.0.stats);
        let Some(stats) = &*stats else { return Ok(()) };
        // A store that can be used is never of 0 bytes: this one did not tell its figures.
        if stats.size_bytes > 0 {
            gauge("inbox_size", "Size of the store on disk", Some(&Unit::Bytes), stats.size_bytes)?;
            let help = "Space in the store's file that it uses again before it grows";
            gauge("inbox_reusable", help, Some(&Unit::Bytes), stats.reusable_bytes)?;
            gauge("inbox_log", "Size of the write-ahead log", Some(&Unit::Bytes), stats.log_bytes)?;
        }
        gauge("inbox_journal", "Size of the journal on disk", Some(&Unit::Bytes), stats.journal_bytes)?;
        let help = "Accepted events that are in the journal and not yet in the store";
        gauge("inbox_unfolded", help, None, stats.unfolded)?;
        let help = "Whether accepted events cannot be moved from the journal into the store";
        gauge("inbox_fold_stuck", help, None, stats.is_fold_stuck.into())?;
        let help = "Age of the oldest event that is in the journal because PostgreSQL did not answer; 0 without one";
        let age = stats.oldest_unfolded.map_or(Duration::ZERO, |oldest| clock::now().since(oldest));
        gauge("inbox_oldest_unfolded", help, Some(&Unit::Seconds), age.as_secs())?;
        let help = "Whether PostgreSQL, where the inbox is, does not answer";
        gauge("inbox_away", help, None, stats.is_away.into())?;
        let help = "Whether PostgreSQL holds another inbox than before";
        gauge("inbox_foreign", help, None, stats.is_foreign.into())?;
        if let Some(free) = stats.free_bytes {
            gauge("inbox_free", "Free space on the disk that takes events", Some(&Unit::Bytes), free)?;
        }
        let (name, help) = ("inbox_entries", "Unfinished and parked work by stage and state");
        let mut entries = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (stage, counts) in &stats.stages {
            for (state, count) in [("waiting", counts.waiting), ("leased", counts.leased), ("parked", counts.parked)] {
                let labels = [("stage", stage.to_string()), ("state", state.to_owned())];
                entries.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        let (name, help) =
            ("inbox_held", "Connections whose work waits behind a parked entry, because the sink keeps strict order");
        let mut behind = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (stage, _) in stats.stages.iter().filter(|(stage, _)| matches!(stage, Stage::Deliver(_))) {
            let lines = stats.held.iter().find(|(found, _)| found == stage).map_or(0, |(_, lines)| *lines);
            behind.encode_family(&[("stage", stage.to_string())])?.encode_gauge(&lines)?;
        }
        let (name, help) = ("inbox_oldest_unfinished", "Age of the oldest unfinished entry of a stage; 0 without one");
        let mut oldest = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (stage, _) in &stats.stages {
            let accepted =
                stats.oldest_by_stage.iter().find(|(found, _)| found == stage).map(|(_, accepted)| *accepted);
            let age = accepted.map_or(Duration::ZERO, |accepted| clock::now().since(accepted));
            oldest.encode_family(&[("stage", stage.to_string())])?.encode_gauge(&age.as_secs())?;
        }
        Ok(())
    }
}
