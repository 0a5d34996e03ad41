//! Counts what is refused, and says it without letting a flood of refusals fill the log.
//!
//! The first refusal for a reason is logged at once, with its facts; those that follow are counted (and logged at `debug`),
//! and once a minute one line for each reason gives their number. Faults of ours that may come as often are held back
//! likewise.

use super::{
    caller::Caller,
    figures,
    ledger::{Ledger, Record},
    reason::Reason,
};
use crate::observe::limiter::Limiter;
use http::StatusCode;
use std::{net::SocketAddr, time::Duration};

/// Logs a refusal: as a warning if it is the first for its reason.
macro_rules! log_refusal {
    ($refusals:expr, $reason:expr, $($line:tt)*) => {
        if $refusals.is_first($reason) {
            tracing::warn!(reason = $reason.label(), $($line)*);
        } else {
            tracing::debug!(reason = $reason.label(), $($line)*);
        }
    };
}
pub(super) use log_refusal;

/// How often [`Refusals::summary`] is due.
pub(super) const EVERY: Duration = Duration::from_mins(1);

/// What happens as often as callers like, but refuses nobody by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// Accepting failed.
    Accept,
    /// The inbox did not take an event.
    Inbox,
    /// What was refused could not be kept.
    Unkept,
    /// A caller was let in whose certificate would be refused for this.
    Observed(Reason),
}

/// Where every part of the receiver reports what it refuses.
#[derive(Debug)]
pub(super) struct Refusals {
    figures: figures::Refused,
    answers: figures::Answers,
    /// What is kept for `inbox refused`.
    ledger: Ledger,
    /// Which lines were logged in this minute, and how many were not.
    reasons: Limiter<Reason>,
    faults: Limiter<Fault>,
}

impl Refusals {
    pub(super) fn new(figures: figures::Refused, answers: figures::Answers) -> Self {
        Self { figures, answers, ledger: Ledger::default(), reasons: Limiter::default(), faults: Limiter::default() }
    }

    /// Counts and logs a socket that is closed without a word, because there is nobody yet who could read one.
    pub(super) fn turn_away(&self, peer: SocketAddr, reason: Reason, why: &'static str) {
        self.count(reason);
        log_refusal!(self, reason, code = "connection_refused", %peer, detail = why, "connection refused");
    }

    /// Counts a refusal.
    pub(super) fn count(&self, reason: Reason) {
        self.figures.count(reason);
    }

    /// Counts an answer.
    pub(super) fn count_answer(&self, status: StatusCode) {
        self.answers.count(status);
    }

    /// Keeps a refusal for `inbox refused`, as far as there is room; counts those of known callers apart.
    pub(super) fn keep(&self, caller: &Caller, record: &Record<'_>) {
        if record.is_known {
            self.figures.known.inc();
        }
        if !self.ledger.keep(caller, record) {
            self.figures.unkept.inc();
        }
    }

    /// Notes refusals that should have been kept, and were not; says why, if that was not said in this minute.
    pub(super) fn note_unkept(&self, count: u64, error: &str) {
        self.figures.unkept.inc_by(count);
        if self.is_first_fault(Fault::Unkept) {
            tracing::warn!(code = "refusal_not_kept", error, "what was refused could not be kept for `inbox refused`");
        }
    }

    /// The ledger, for its task.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Notes a refusal, and says whether to log it.
    pub(super) fn is_first(&self, reason: Reason) -> bool {
        self.reasons.is_first(reason)
    }

    /// Notes a fault, and says whether to log it.
    pub(super) fn is_first_fault(&self, fault: Fault) -> bool {
        self.faults.is_first(fault)
    }

    /// Logs how many were silenced.
    pub(super) fn summary(&self) {
        for (reason, count) in self.reasons.silenced() {
            let reason = reason.label();
            tracing::warn!(
                code = "refusals_more",
                reason,
                count,
                "more was refused for the same reason in the last minute"
            );
        }
        for (fault, count) in self.faults.silenced() {
            match fault {
                Fault::Accept => tracing::error!(
                    code = "accept_failed_more",
                    count,
                    "accepting connections failed again in the last minute"
                ),
                Fault::Inbox => tracing::error!(
                    code = "event_not_stored_more",
                    count,
                    "the inbox did not take more events in the last minute"
                ),
                Fault::Unkept => tracing::warn!(
                    code = "refusal_not_kept_more",
                    count,
                    "more of what was refused could not be kept in the last minute"
                ),
                Fault::Observed(reason) => {
                    let reason = reason.label();
                    tracing::warn!(
                        code = "certificate_observed_more",
                        reason,
                        count,
                        "more callers were let in that would be refused, in the last minute"
                    );
                }
            }
        }
    }
}
