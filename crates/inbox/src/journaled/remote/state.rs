//! What every part of a receiver on a server knows together.

use super::beside::Beside;
use crate::{
    Error, Intake as _, Keys,
    intake::Told,
    postgres::{Postgres, connect::Pool},
};
use base::sync::lock;
use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, watch};

/// A receiver's way to its inbox: the head of `mod.rs` says what it is.
pub(crate) struct Remote {
    pub(super) pool: Pool,
    /// `None` until the server was there once.
    pub(super) store: watch::Sender<Option<Arc<Postgres>>>,
    pub(super) keys: Arc<OnceLock<Keys>>,
    /// Why the store is not open, or why its server cannot be used now; `None`: nothing is known against it.
    pub(super) problem: Mutex<Option<String>>,
    /// The journal, once it is known of which inbox it is.
    pub(super) beside: OnceLock<Beside>,
    pub(super) told: Arc<OnceLock<Told>>,
    /// Pauses of sinks were asked for since the store is open, so nothing is delivered to a sink that an operator paused.
    pub(super) knows_pauses: AtomicBool,
    pub(super) is_closed: AtomicBool,
    pub(super) closing: Notify,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("pool", &self.pool).field("problem", &self.problem).finish_non_exhaustive()
    }
}

impl Remote {
    /// The store, where it is open.
    pub(super) fn opened(&self) -> Option<Arc<Postgres>> {
        self.store.borrow().clone()
    }

    /// The store, where it is open and its server is not known to be away.
    pub(super) fn usable(&self) -> Option<Arc<Postgres>> {
        let is_well = |store: &Arc<Postgres>| matches!(store.ready(), Ok(()) | Err(Error::Backlog));
        self.opened().filter(is_well).filter(|_| self.pool.foreign().is_none())
    }

    /// The store, or why there is none.
    pub(super) fn store(&self) -> Result<Arc<Postgres>, Error> {
        self.opened().ok_or_else(|| self.away())
    }

    /// Why the server cannot be used.
    pub(super) fn away(&self) -> Error {
        if self.is_closed.load(Ordering::Acquire) {
            return Error::Closed;
        }
        if let Some(fault) = self.pool.foreign() {
            return fault.into();
        }
        let problem = lock(&self.problem).clone();
        Error::Away(problem.unwrap_or_else(|| "PostgreSQL was not reached yet".to_owned()).into())
    }
}
