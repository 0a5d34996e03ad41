//! The figures that the service exposes at `/metrics`, in one place so that names stay consistent.
//!
//! Label values come from closed sets (outcomes, reasons, configured sink names), never from what a caller sent.
//! Names follow OpenMetrics: base units, `_total` for counters (added by the library).

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

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// A stable code from a closed set.
    pub reason: &'static str,
}

/// A judgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Verdict {
    /// `ok`, or a reason from a closed set.
    pub verdict: &'static str,
}

/// HTTP status of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// Three digits.
    pub status: u16,
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

/// A stage of work and a state in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageState {
    /// `completion` or the sink's name.
    pub stage: String,
    /// `waiting`, `leased`, `parked`.
    pub state: &'static str,
}

/// All figures. Cheap to update from anywhere; shared as `Arc<Metrics>`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Answers of the public listener.
    pub requests: Family<Status, Counter>,
    /// Events by outcome: `accepted`, `duplicate`, `conflict` (same id, other content; also counted as accepted).
    pub events: Family<Outcome, Counter>,
    /// Events that could not be typed in full.
    pub schema_drift: Counter,
    /// From the last byte of a body to its synced commit.
    pub accept_seconds: Histogram,
    /// Refused requests and sockets, by code.
    pub refused: Family<Reason, Counter>,
    /// Refused requests that were not kept for inspection: too many at once, or the store had no room.
    pub refused_unkept: Counter,
    /// TLS handshakes by outcome: `ok`, `failed`, `timeout`.
    pub handshakes: Family<Outcome, Counter>,
    /// Open sockets of the public listener.
    pub connections: Gauge,
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
    /// What the client of the vendor's API counts.
    pub linxo: linxo::Figures,
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
    /// Requests to the admin listener without the right token.
    pub admin_unauthorized: Counter,
    /// End of the server certificate's validity, seconds since the epoch.
    pub certificate_expiry: Gauge,
    /// Judgements on client certificates: `ok`, or why one is (or, where they are only observed, would be) refused.
    pub client_certificates: Family<Verdict, Counter>,
    /// Earliest end of an accepted client certificate seen since the last reload, seconds since the epoch; 0: none.
    pub client_certificate_expiry: Gauge,
    /// Earliest end of a list of revoked client certificates, seconds since the epoch; 0: there is none.
    pub revocations_expiry: Gauge,
    /// Reloads of files by outcome: `ok`, `failed`.
    pub reloads: Family<Outcome, Counter>,
    /// Last start or successful reload, seconds since the epoch.
    pub reloaded: Gauge,
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
    /// Registers every figure once.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("linxo_webhook");
        let linxo = linxo::Figures::new(&mut registry);
        let mut metrics = Self {
            registry,
            requests: Family::default(),
            events: Family::default(),
            schema_drift: Counter::default(),
            accept_seconds: seconds(),
            refused: Family::default(),
            refused_unkept: Counter::default(),
            handshakes: Family::default(),
            connections: Gauge::default(),
            inbox_entries: Family::default(),
            inbox_oldest_seconds: Gauge::default(),
            inbox_size_bytes: Gauge::default(),
            inbox_log_bytes: Gauge::default(),
            completions: Family::default(),
            completion_seconds: seconds(),
            linxo,
            account_mismatch: Counter::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(seconds),
            leases_lost: Counter::default(),
            work_panics: Counter::default(),
            admin_unauthorized: Counter::default(),
            certificate_expiry: Gauge::default(),
            client_certificates: Family::default(),
            client_certificate_expiry: Gauge::default(),
            revocations_expiry: Gauge::default(),
            reloads: Family::default(),
            reloaded: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    /// Gives every figure its name and its help.
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Answers of the public listener", self.requests.clone());
        r.register("events", "Events by outcome", self.events.clone());
        r.register("schema_drift", "Events that could not be typed in full", self.schema_drift.clone());
        r.register_with_unit(
            "accept",
            "From the last byte of a body to its synced commit",
            Unit::Seconds,
            self.accept_seconds.clone(),
        );
        r.register("refused", "Refused requests and sockets by reason", self.refused.clone());
        r.register("refused_unkept", "Refused requests that were not kept for inspection", self.refused_unkept.clone());
        r.register("tls_handshakes", "TLS handshakes by outcome", self.handshakes.clone());
        r.register("connections", "Open sockets of the public listener", self.connections.clone());
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
        r.register(
            "account_mismatch",
            "Deliveries whose number of accounts differs from the announced one",
            self.account_mismatch.clone(),
        );
        r.register("deliveries", "Delivery attempts by sink and outcome", self.deliveries.clone());
        r.register_with_unit("delivery", "Duration of delivery attempts", Unit::Seconds, self.delivery_seconds.clone());
        r.register("leases_lost", "Leases that expired before they were settled", self.leases_lost.clone());
        r.register("work_panics", "Attempts that ended in a panic: a defect", self.work_panics.clone());
        r.register(
            "admin_unauthorized",
            "Requests to the admin listener without the right token",
            self.admin_unauthorized.clone(),
        );
        r.register(
            "tls_certificate_expiry_timestamp_seconds",
            "End of the server certificate's validity",
            self.certificate_expiry.clone(),
        );
        r.register(
            "client_certificates",
            "Judgements on client certificates by verdict",
            self.client_certificates.clone(),
        );
        r.register(
            "client_certificate_expiry_timestamp_seconds",
            "Earliest end of an accepted client certificate since the last reload; 0: none was seen",
            self.client_certificate_expiry.clone(),
        );
        r.register(
            "tls_revocations_expiry_timestamp_seconds",
            "Earliest end of a list of revoked client certificates; 0: there is none",
            self.revocations_expiry.clone(),
        );
        r.register("reloads", "Reloads of certificates and secrets by outcome", self.reloads.clone());
        r.register("last_reload_timestamp_seconds", "Last start or successful reload", self.reloaded.clone());
    }

    /// Writes all figures in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}
