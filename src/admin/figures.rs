//! What the admin listener counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// The figures of the admin listener.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests without the right token.
    pub(super) unauthorized: Counter,
}

impl Figures {
    /// Enters them in the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let figures = Self { unauthorized: Counter::default() };
        registry.register(
            "admin_unauthorized",
            "Requests to the admin listener without the right token",
            figures.unauthorized.clone(),
        );
        figures
    }
}
