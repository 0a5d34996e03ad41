//! Figures of parts that do not count for themselves yet: the inbox, the client of the vendor's API, the work.
//!
//! Label values come from closed sets (outcomes, configured sink names), never from what a caller sent.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// `{reason="..."}` and its like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// From a closed set.
    pub outcome: &'static str,
}

/// A configured sink and what became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkOutcome {
    /// Configured name.
    pub sink: String,
    /// `delivered`, `retry`, `parked`.
    pub outcome: &'static str,
}

/// A configured sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkName {
    /// Configured name.
    pub sink: String,
}

/// A server that is asked for accounts and tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiPeer {
    /// `linxo`, `auth`, `users`.
    pub peer: &'static str,
}

/// A stage of work and a state in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageState {
    /// `completion` or the sink's name.
    pub stage: String,
    /// `waiting`, `leased`, `parked`.
    pub state: &'static str,
}

/// These figures. Cheap to update from anywhere; shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    /// Work in the inbox.
    pub inbox_entries: Family<StageState, Gauge>,
    /// Age of the oldest unfinished entry; 0 without one.
    pub inbox_oldest_seconds: Gauge,
    /// Bytes of the store.
    pub inbox_size_bytes: Gauge,
    /// Bytes of the store's write-ahead log.
    pub inbox_log_bytes: Gauge,
    /// Completions by outcome: `completed`, `gone`, `retry`, `parked`, `paused`.
    pub completions: Family<Outcome, Counter>,
    /// From the start of a completion to its end.
    pub completion_seconds: Histogram,
    /// Calls to the vendor's API by outcome: `ok`, `unauthorized`, `refused`, `throttled`, `server_error`, `network`, `invalid`,
    /// `paused`.
    pub api_requests: Family<Outcome, Counter>,
    /// Whether a server is left alone because it failed or asked for a rest: 1 or 0.
    pub api_breaker_open: Family<ApiPeer, Gauge>,
    /// Token requests by outcome, as above.
    pub token_requests: Family<Outcome, Counter>,
    /// Deliveries whose number of accounts differs from the announced one.
    pub account_mismatch: Counter,
    /// Delivery attempts.
    pub deliveries: Family<SinkOutcome, Counter>,
    /// Duration of delivery attempts.
    pub delivery_seconds: Family<SinkName, Histogram, fn() -> Histogram>,
    /// Leases that expired or were lost.
    pub leases_lost: Counter,
    /// Attempts that ended in a panic.
    pub work_panics: Counter,
}

fn seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Figures that nobody reads.
    #[must_use]
    pub fn new() -> Self {
        Self::registered(&mut Registry::default())
    }

    /// Enters every figure once.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            inbox_entries: Family::default(),
            inbox_oldest_seconds: Gauge::default(),
            inbox_size_bytes: Gauge::default(),
            inbox_log_bytes: Gauge::default(),
            completions: Family::default(),
            completion_seconds: seconds(),
            api_requests: Family::default(),
            api_breaker_open: Family::default(),
            token_requests: Family::default(),
            account_mismatch: Counter::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(seconds),
            leases_lost: Counter::default(),
            work_panics: Counter::default(),
        };
        metrics.register(registry);
        metrics
    }

    /// Gives every figure its name and its help.
    fn register(&self, r: &mut Registry) {
        r.register("inbox_entries", "Unfinished and parked work by stage and state", self.inbox_entries.clone());
        r.register_with_unit(
            "inbox_oldest_unfinished",
            "Age of the oldest unfinished entry",
            Unit::Seconds,
            self.inbox_oldest_seconds.clone(),
        );
        r.register_with_unit("inbox_size", "Size of the store on disk", Unit::Bytes, self.inbox_size_bytes.clone());
        r.register_with_unit("inbox_log", "Size of the write-ahead log", Unit::Bytes, self.inbox_log_bytes.clone());
        r.register("completions", "Completions by outcome", self.completions.clone());
        r.register_with_unit(
            "completion",
            "From the start of a completion to its end",
            Unit::Seconds,
            self.completion_seconds.clone(),
        );
        r.register("api_requests", "Calls to the vendor's API by outcome", self.api_requests.clone());
        r.register(
            "api_breaker_open",
            "Whether a server is left alone because it failed or asked for a rest",
            self.api_breaker_open.clone(),
        );
        r.register("token_requests", "Token requests by outcome", self.token_requests.clone());
        r.register(
            "account_mismatch",
            "Deliveries whose number of accounts differs from the announced one",
            self.account_mismatch.clone(),
        );
        r.register("deliveries", "Delivery attempts by sink and outcome", self.deliveries.clone());
        r.register_with_unit("delivery", "Duration of delivery attempts", Unit::Seconds, self.delivery_seconds.clone());
        r.register("leases_lost", "Leases that expired before they were settled", self.leases_lost.clone());
        r.register("work_panics", "Attempts that ended in a panic: a defect", self.work_panics.clone());
    }
}
