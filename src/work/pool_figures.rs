//! What the loops of all stages count.

use base::error::chain;
use inbox::{Error, Lease, Stage};
use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// What pools count.
#[derive(Clone, Debug)]
pub struct Figures {
    leases_lost: Counter,
    panics: Counter,
}

impl Figures {
    /// Registers the figures.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self { leases_lost: Counter::default(), panics: Counter::default() };
        registry.register("leases_lost", "Leases that expired before they were settled", this.leases_lost.clone());
        registry.register("work_panics", "Attempts that ended in a panic: a defect", this.panics.clone());
        this
    }

    /// Counts work that panicked.
    pub(super) fn panicked_once(&self) {
        self.panics.inc();
    }

    /// Counts and logs work that counts for nothing.
    pub(super) fn unsettled(&self, stage: &Stage, lease: &Lease, error: &Error) {
        self.leases_lost.inc();
        tracing::warn!(
            code = "lease_lost",
            stage = %stage,
            entry = lease.seq.0,
            event.id = %lease.entry.event_id,
            error = %chain(error),
            "work on an entry counts for nothing, because its lease is over: it is done again, unless the entry was parked or deleted meanwhile"
        );
    }

    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.leases_lost.get()
    }

    #[cfg(test)]
    pub(super) fn panicked(&self) -> u64 {
        self.panics.get()
    }
}
