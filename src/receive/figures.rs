//! What the public listener counts. Each part of the receiver is handed the figures that it counts, and no others.

use super::reason::Reason;
use crate::observe::metrics::{Latest, Outcome, counters, outcome, outcomes, seconds};
use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// All figures of the public listener, to be divided among its parts.
#[derive(Debug)]
pub struct Figures {
    /// Open sockets.
    pub(super) connections: Gauge,
    pub(super) handshakes: Handshakes,
    pub(super) certificates: Certificates,
    pub(super) events: Events,
    pub(super) answers: Answers,
    pub(super) refused: Refused,
}

impl Figures {
    /// Enters them in the registry. `last_event` is the time of the last accepted event, as far as it is known already.
    #[must_use]
    pub fn new(registry: &mut Registry, last_event: Latest) -> Self {
        let connections = Gauge::default();
        registry.register("connections", "Open sockets of the public listener", connections.clone());
        Self {
            connections,
            events: Events::new(registry, last_event),
            answers: Answers::new(registry),
            refused: Refused::new(registry),
            certificates: Certificates::new(registry),
            handshakes: Handshakes::new(registry),
        }
    }
}

/// What became of events. Clones count into the same figures.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    pub(super) accepted: Counter,
    pub(super) duplicate: Counter,
    /// Accepted, with the id of another event and other content.
    pub(super) conflict: Counter,
}

/// What became of events, and how long that took. Looked up once, and not with every event.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) outcomes: Outcomes,
    /// When the last event was accepted.
    pub(super) last: Latest,
    /// Events that could not be typed in full.
    pub(super) drift: Counter,
    /// From the last byte of a body to its synced commit.
    pub(super) accept_seconds: Histogram,
}

impl Events {
    fn new(registry: &mut Registry, last: Latest) -> Self {
        let outcomes = Family::<Outcome, Counter>::default();
        let of = |word| outcomes.get_or_create_owned(&outcome(word));
        let figures = Self {
            outcomes: Outcomes { accepted: of("accepted"), duplicate: of("duplicate"), conflict: of("conflict") },
            last,
            drift: Counter::default(),
            accept_seconds: seconds(),
        };
        registry.register("events", "Events by outcome", outcomes);
        registry.register("last_event_timestamp_seconds", "When the last event was accepted", figures.last.clone());
        registry.register("schema_drift", "Events that could not be typed in full", figures.drift.clone());
        registry.register_with_unit(
            "accept",
            "From the last byte of a body to its synced commit",
            Unit::Seconds,
            figures.accept_seconds.clone(),
        );
        figures
    }
}

/// Every status that is answered.
pub(super) const STATUSES: [u16; 13] = [200, 400, 403, 404, 405, 408, 413, 414, 415, 422, 431, 500, 503];

/// HTTP status of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

/// Answers by status. Clones count into the same figures.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    ok: Counter,
    all: Family<Status, Counter>,
}

impl Answers {
    fn new(registry: &mut Registry) -> Self {
        let all = counters(STATUSES.map(|status| Status { status }));
        registry.register("requests", "Answers of the public listener", all.clone());
        Self { ok: all.get_or_create_owned(&Status { status: 200 }), all }
    }

    pub(super) fn count(&self, status: StatusCode) {
        if status == StatusCode::OK {
            self.ok.inc();
        } else {
            self.all.get_or_create(&Status { status: status.as_u16() }).inc();
        }
    }
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Refused requests and sockets.
#[derive(Debug)]
pub(super) struct Refused {
    all: Family<ReasonLabel, Counter>,
    /// Requests of callers that are known.
    pub(super) known: Counter,
    /// Not kept for inspection: too many at once, or the store had no room.
    pub(super) unkept: Counter,
}

impl Refused {
    fn new(registry: &mut Registry) -> Self {
        let reasons = Reason::ALL.iter().filter(|reason| !reason.is_verdict());
        let all = counters(reasons.map(|reason| ReasonLabel { reason: reason.label() }));
        let figures = Self { all, known: Counter::default(), unkept: Counter::default() };
        registry.register("refused", "Refused requests and sockets by reason", figures.all.clone());
        registry.register("refused_known", "Refused requests of callers that are known", figures.known.clone());
        registry.register(
            "refused_unkept",
            "Refused requests that were not kept for inspection",
            figures.unkept.clone(),
        );
        figures
    }

    pub(super) fn count(&self, reason: Reason) {
        self.all.get_or_create(&ReasonLabel { reason: reason.label() }).inc();
    }
}

/// A judgement on a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
}

/// Handshakes, and the client certificates that are shown in them.
#[derive(Debug)]
pub(super) struct Handshakes {
    outcomes: Family<Outcome, Counter>,
    verdicts: Family<Verdict, Counter>,
}

impl Handshakes {
    fn new(registry: &mut Registry) -> Self {
        let verdicts = Reason::ALL.iter().filter(|reason| reason.is_verdict()).map(|reason| reason.label());
        let figures = Self {
            outcomes: counters(outcomes(["ok", "failed", "timeout"])),
            verdicts: counters(["ok"].into_iter().chain(verdicts).map(|verdict| Verdict { verdict })),
        };
        registry.register("tls_handshakes", "TLS handshakes by outcome", figures.outcomes.clone());
        registry.register(
            "client_certificates",
            "Judgements on client certificates by verdict",
            figures.verdicts.clone(),
        );
        figures
    }

    /// Counts a handshake: `ok`, `failed`, `timeout`.
    pub(super) fn ended(&self, word: &'static str) {
        self.outcomes.get_or_create(&outcome(word)).inc();
    }

    /// Counts a judgement: `ok`, or why a client certificate is (or, where they are only observed, would be) refused.
    pub(super) fn judged(&self, verdict: &'static str) {
        self.verdicts.get_or_create(&Verdict { verdict }).inc();
    }
}

/// When certificates and revocation lists end, in seconds since the epoch.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Of the server's certificate.
    pub(super) own: Gauge,
    /// Earliest end of an accepted client certificate since the last reload; 0: none was seen.
    pub(super) clients: Gauge,
    /// Earliest end of a list of revoked client certificates; 0: there is none.
    pub(super) revocations: Gauge,
}

impl Certificates {
    fn new(registry: &mut Registry) -> Self {
        let figures = Self { own: Gauge::default(), clients: Gauge::default(), revocations: Gauge::default() };
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "End of the server certificate's validity",
            figures.own.clone(),
        );
        registry.register(
            "client_certificate_expiry_timestamp_seconds",
            "Earliest end of an accepted client certificate since the last reload; 0: none was seen",
            figures.clients.clone(),
        );
        registry.register(
            "tls_revocations_expiry_timestamp_seconds",
            "Earliest end of a list of revoked client certificates; 0: there is none",
            figures.revocations.clone(),
        );
        figures
    }
}
