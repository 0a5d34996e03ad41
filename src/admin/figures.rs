//! What the admin listener counts.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The figures of the admin listener.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests without the right token.
    pub(super) unauthorized: Counter,
    /// Whether an event sent now would be accepted, looked at with each scrape: 1 or 0.
    pub(super) ready: Gauge,
}

impl Figures {
    /// Enters them in the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self { unauthorized: Counter::default(), ready: Gauge::default() };
        registry.register(
            "admin_unauthorized",
            "Requests to the admin listener without the right token",
            figures.unauthorized.clone(),
        );
        registry.register("ready", "Whether an event sent now would be accepted", figures.ready.clone());
        figures
    }
}
