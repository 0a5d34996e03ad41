//! Counts what is refused, and says it without letting a flood of refusals fill the log.
//!
//! The first refusal for a reason is logged at once, with its facts; those that follow are counted, and once a minute one
//! line a reason gives their number.

use super::Receiver;
use crate::metrics::{Metrics, Reason, Status};
use http::StatusCode;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often [`Refusals::summary`] is due.
pub(super) const EVERY: Duration = Duration::from_mins(1);

/// Refusals since the last summary that were not logged, by reason. Reasons come from a closed set.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<&'static str, u64>>);

impl Refusals {
    /// Notes one, and says whether to log it.
    pub(super) fn is_first(&self, reason: &'static str) -> bool {
        let mut silenced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = silenced.get_mut(reason) {
            *count += 1;
            return false;
        }
        silenced.insert(reason, 0);
        true
    }

    /// Logs how many were silenced, by reason. A reason that was silent throughout is forgotten: its next is a first again.
    pub(super) fn summary(&self) {
        for (reason, count) in self.silenced() {
            tracing::warn!(reason, count, "more was refused for the same reason in the last minute");
        }
    }

    fn silenced(&self) -> Vec<(&'static str, u64)> {
        let mut silenced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<_> =
            silenced.iter().filter(|(_, count)| **count > 0).map(|(reason, count)| (*reason, *count)).collect();
        silenced.retain(|_, count| std::mem::take(count) > 0);
        found
    }
}

/// Counts and logs a socket that is closed without a word, because there is nobody yet who could read one.
pub(super) fn turn_away(receiver: &Receiver, peer: SocketAddr, reason: &'static str, why: &'static str) {
    count(&receiver.metrics, reason);
    if receiver.refusals.is_first(reason) {
        tracing::warn!(%peer, reason, why, "connection refused");
    }
}

/// Counts a refusal.
pub(super) fn count(metrics: &Metrics, reason: &'static str) {
    metrics.refused.get_or_create(&Reason { reason }).inc();
}

/// Counts an answer other than 200.
pub(super) fn count_answer(receiver: &Receiver, status: StatusCode) {
    receiver.metrics.requests.get_or_create(&Status { status: status.as_u16() }).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_two_lines() {
        let refusals = Refusals::default();
        assert!(refusals.is_first("not_found"));
        assert!((0..999).all(|_| !refusals.is_first("not_found")));
        assert!(refusals.is_first("method"));
        assert_eq!(refusals.silenced(), [("not_found", 999)]);
        // Still within the flood: only counted. `method` had a silent minute.
        assert!(!refusals.is_first("not_found"));
        assert!(refusals.is_first("method"));
        assert_eq!(refusals.silenced(), [("not_found", 1)]);
        assert_eq!(refusals.silenced(), []);
        assert!(refusals.is_first("not_found"));
    }
}
