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
    /// End of the listener's certificate, in seconds since the epoch, looked at with each scrape; 0 for plain HTTP.
    pub(super) certificate: Gauge,
}

impl Figures {
    /// Enters them in the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self { unauthorized: Counter::default(), ready: Gauge::default(), certificate: Gauge::default() };
        registry.register(
            "admin_unauthorized",
            "Requests to the admin listener without the right token",
            figures.unauthorized.clone(),
        );
        registry.register("ready", "Whether an event sent now would be accepted", figures.ready.clone());
        registry.register(
            "admin_certificate_expiry_timestamp_seconds",
            "End of the validity of the admin listener's certificate; 0: it speaks plain HTTP",
            figures.certificate.clone(),
        );
        figures
    }
}
