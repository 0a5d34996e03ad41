//! What the client counts, for `/metrics`.
//!
//! Label values come from closed sets, never from what a server sent. All of them are there as 0 from the start.

use crate::error::{Error, Peer};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Bounds of the classes of durations, in seconds: calls are given up after `linxo.timeout`.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The figures. A copy counts into the same ones.
#[derive(Clone, Debug)]
pub struct Figures {
    requests: Family<Outcome, Counter>,
    token_requests: Family<Outcome, Counter>,
    breaker_open: Family<Server, Gauge>,
    failing_since: Family<Server, Gauge>,
    seconds: Family<Server, Histogram, fn() -> Histogram>,
}

/// How a call ended: one of [`Error::OUTCOMES`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// A server that is asked: `linxo`, `auth`, `users`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Server {
    peer: &'static str,
}

/// The figures of one server's state.
#[derive(Clone, Debug)]
pub(crate) struct ServerFigures {
    /// Whether it is left alone: 1 or 0.
    pub(crate) breaker_open: Gauge,
    /// Since when every call failed, in seconds since the epoch; 0: it does not fail.
    pub(crate) failing_since: Gauge,
    /// How long calls took.
    pub(crate) seconds: Histogram,
}

impl Figures {
    /// Registers every figure once.
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self {
            requests: Family::default(),
            token_requests: Family::default(),
            breaker_open: Family::default(),
            failing_since: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        for outcome in Error::OUTCOMES {
            drop(figures.requests.get_or_create(&Outcome { outcome }));
            drop(figures.token_requests.get_or_create(&Outcome { outcome }));
        }
        for peer in Peer::ALL {
            drop(figures.of(peer));
        }
        registry.register("api_requests", "Calls to the vendor's API by outcome", figures.requests.clone());
        registry.register(
            "api_breaker_open",
            "Whether a server is left alone because it failed or asked for a rest",
            figures.breaker_open.clone(),
        );
        registry.register(
            "api_failing_since_timestamp_seconds",
            "Since when every call to a server failed; 0: it does not fail",
            figures.failing_since.clone(),
        );
        registry.register_with_unit(
            "api_request",
            "Duration of calls to a server, from connecting to the last byte",
            Unit::Seconds,
            figures.seconds.clone(),
        );
        registry.register("token_requests", "Token requests by outcome", figures.token_requests.clone());
        figures
    }

    /// Counts a call to the API.
    pub(crate) fn count_request(&self, outcome: &'static str) {
        self.requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a request for a token.
    pub(crate) fn count_token_request(&self, outcome: &'static str) {
        self.token_requests.get_or_create(&Outcome { outcome }).inc();
    }

    /// Those of one server.
    pub(crate) fn of(&self, peer: Peer) -> ServerFigures {
        let server = Server { peer: peer.as_str() };
        ServerFigures {
            breaker_open: self.breaker_open.get_or_create_owned(&server),
            failing_since: self.failing_since.get_or_create_owned(&server),
            seconds: self.seconds.get_or_create_owned(&server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::encoded;

    /// (F1) Whatever an alert asks for is there before it happens.
    #[test]
    fn every_series_is_there_from_the_start() {
        let mut registry = Registry::with_prefix("linxo_webhook");
        let figures = Figures::new(&mut registry);
        let before = encoded(&registry);
        for outcome in Error::OUTCOMES {
            for name in ["api_requests", "token_requests"] {
                let line = format!("linxo_webhook_{name}_total{{outcome=\"{outcome}\"}} 0\n");
                assert!(before.contains(&line), "{line} in {before}");
            }
        }
        for peer in ["linxo", "auth", "users"] {
            for name in ["api_breaker_open", "api_failing_since_timestamp_seconds", "api_request_seconds_count"] {
                let line = format!("linxo_webhook_{name}{{peer=\"{peer}\"}} 0\n");
                assert!(before.contains(&line), "{line} in {before}");
            }
        }
        figures.count_request("ok");
        figures.of(Peer::Auth).breaker_open.set(1);
        let after = encoded(&registry);
        assert!(after.contains("api_requests_total{outcome=\"ok\"} 1\n"), "{after}");
        assert!(after.contains("api_breaker_open{peer=\"auth\"} 1\n"), "{after}");
        assert_eq!(before.lines().count(), after.lines().count());
    }
}
