//! What the client counts, for `/metrics`.
//!
//! Label values come from closed sets, never from what a server sent.

use crate::error::Peer;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The figures. A copy counts into the same ones.
#[derive(Clone, Debug)]
pub struct Figures {
    requests: Family<Outcome, Counter>,
    breaker_open: Family<Server, Gauge>,
    token_requests: Family<Outcome, Counter>,
}

/// How a call ended: `ok`, `unauthorized`, `refused`, `throttled`, `server_error`, `network`, `invalid`, `paused`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// A server that is asked: `linxo`, `auth`, `users`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Server {
    peer: &'static str,
}

impl Figures {
    /// Registers every figure once.
    pub fn new(registry: &mut Registry) -> Self {
        let figures =
            Self { requests: Family::default(), breaker_open: Family::default(), token_requests: Family::default() };
        registry.register("api_requests", "Calls to the vendor's API by outcome", figures.requests.clone());
        registry.register(
            "api_breaker_open",
            "Whether a server is left alone because it failed or asked for a rest",
            figures.breaker_open.clone(),
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

    /// Whether a server is left alone: 1 or 0.
    pub(crate) fn breaker_open(&self, peer: Peer) -> Gauge {
        self.breaker_open.get_or_create(&Server { peer: peer.as_str() }).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::encoded;

    #[test]
    fn names_and_helps_are_those_that_dashboards_know() {
        let mut registry = Registry::with_prefix("linxo_webhook");
        let figures = Figures::new(&mut registry);
        figures.count_request("ok");
        figures.count_token_request("refused");
        figures.breaker_open(Peer::Auth).set(1);
        assert_eq!(
            encoded(&registry),
            "# HELP linxo_webhook_api_requests Calls to the vendor's API by outcome.\n\
             # TYPE linxo_webhook_api_requests counter\n\
             linxo_webhook_api_requests_total{outcome=\"ok\"} 1\n\
             # HELP linxo_webhook_api_breaker_open Whether a server is left alone because it failed or asked for a rest.\n\
             # TYPE linxo_webhook_api_breaker_open gauge\n\
             linxo_webhook_api_breaker_open{peer=\"auth\"} 1\n\
             # HELP linxo_webhook_token_requests Token requests by outcome.\n\
             # TYPE linxo_webhook_token_requests counter\n\
             linxo_webhook_token_requests_total{outcome=\"refused\"} 1\n\
             # EOF\n"
        );
    }
}
