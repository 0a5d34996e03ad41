//! What the handler and the extractors of the webhook's route share.

use crate::{
    observe::traces::Tracer,
    receive::{budget::Budget, figures, intake::Intake, refusals::Refusals},
};
use std::{sync::Arc, time::Duration};

/// From the hand-over to the inbox to a 503. Callers wait for seconds, not for minutes.
pub(in crate::receive) const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// What the handlers and extractors share.
#[derive(Debug)]
pub(in crate::receive) struct Webhook {
    /// `listener.path`
    pub(in crate::receive) path: String,
    pub(in crate::receive) bodies: Bodies,
    pub(in crate::receive) commits: Commits,
}

/// Bounds on bodies.
#[derive(Debug)]
pub(in crate::receive) struct Bodies {
    /// Bytes of one body.
    pub(in crate::receive) limit: u64,
    /// For one body.
    pub(in crate::receive) timeout: Duration,
    /// What all requests together may hold.
    pub(in crate::receive) budget: Arc<Budget>,
}

/// Hands events to the inbox.
#[derive(Debug)]
pub(in crate::receive) struct Commits {
    pub(in crate::receive) intake: Intake,
    /// From the hand-over to a 503; the commit itself goes on.
    pub(in crate::receive) timeout: Duration,
    pub(in crate::receive) figures: figures::Events,
    pub(in crate::receive) refusals: Arc<Refusals>,
    /// Makes a span of each receipt.
    pub(in crate::receive) tracer: Tracer,
}
