//! Hands one entry to one sink, and decides what becomes of the entry.
//!
//! In: a lease on a sink's stage. Out: its [`Outcome`]. A failure of the sink is booked on the sink: backoff, then parked. An
//! error of the inbox, on the way to the delivery or while the sink reads the body, is returned as that, and books nothing.

use super::{
    attempts::Attempts,
    body::inbox_error,
    compose::{Stop, compose},
    figures::Figures,
    filters,
    gate::Gate,
    pool::Handler,
    retry::{Failed, Policy},
    room::room_for,
    spans,
};
use crate::observe::traces::{Span, Tracer};
use async_trait::async_trait;
use base::{
    clock::{self, millis},
    neighbour::{Asked, Turn},
    trust::{self, Ended, Proof, Whose},
};
use delivery::{Attributes, Delivery, Failure, FailureKind, Filter, Slot};
use inbox::{Cause, Error, Lease, Merging, Outcome, Shelf};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What it takes to believe a refusal (4xx).
const REFUSED: Proof = Proof::USUAL;
/// What waits for the sink comes back a little later than it may, each at another time, so that they do not come all at once.
const JITTER: Duration = Duration::from_millis(250);
/// What a person can do about what is parked for good.
const BY_HAND: &str = "mend the sink, then replay";

/// The way to one sink.
pub struct Route {
    /// The destination, which a reload may exchange between two deliveries.
    pub slot: Arc<Slot>,
    /// Whether a delivery may go now, and what its end says about the sink.
    pub gate: Arc<Gate>,
    /// Deliveries, or batches of them, under way at once.
    pub hands: usize,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// Longest wait before the second attempt; doubles with each further one.
    pub retry_first: Duration,
    /// Longest wait between two attempts.
    pub retry_longest: Duration,
    /// Whether what the sink's trouble parks goes back in line by itself.
    pub resumes: bool,
    /// Whether what is older than the last delivery of its connection and channel is left out.
    pub drops_stale: bool,
    /// Which events it is given; `None`: every one.
    pub filter: Option<Filter>,
    /// How long a delivery waits for events of its connection that are merged into it; `None`: each event is a delivery of its own.
    pub merging: Option<Merging>,
    /// `source` of every delivery: base of the vendor's API.
    pub source: String,
    /// Where completed accounts are read from.
    pub shelf: Arc<dyn Shelf>,
    /// What is counted.
    pub figures: Figures,
    /// Who is told of each attempt.
    pub attempts: Attempts,
    /// Makes a span of each attempt.
    pub tracer: Tracer,
    /// The word for the kind of sink.
    pub kind: &'static str,
}

/// A delivery that may go.
struct Ready<'a> {
    delivery: Delivery,
    turn: Turn<'a>,
    span: Span,
}

#[async_trait]
impl Handler for Route {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        let Ready { delivery, turn, span } = match self.prepare(lease).await {
            Ok(ready) => ready,
            Err(ended) => return ended,
        };
        let started = Instant::now();
        let result = tokio::select! {
            result = self.slot.deliver(&delivery) => result,
            () = turn.given_up() => Err(hung().into()),
        };
        self.end(lease, (turn, span), &delivery.attributes, result, started.elapsed())
    }

    async fn handle_many(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        let (mut outcomes, mut turns) = (Vec::with_capacity(leases.len()), Vec::with_capacity(leases.len()));
        let mut deliveries = Vec::with_capacity(leases.len());
        for lease in leases {
            match self.prepare(lease).await {
                Ok(Ready { delivery, turn, span }) => {
                    deliveries.push(delivery);
                    turns.push((turn, span));
                    outcomes.push(None);
                }
                Err(ended) => outcomes.push(Some(ended)),
            }
        }
        let started = Instant::now();
        let results = if deliveries.is_empty() { Vec::new() } else { self.slot.deliver_many(&deliveries).await };
        let took = started.elapsed();
        let mut delivered = deliveries.iter().zip(turns).zip(results);
        let ended = leases.iter().zip(outcomes).map(|(lease, outcome)| {
            outcome.unwrap_or_else(|| match delivered.next() {
                Some(((delivery, turn), result)) => self.end(lease, turn, &delivery.attributes, result, took),
                // A sink that answers fewer deliveries than it was given: what it says nothing of is done again.
                None => Ok(Outcome::GiveBack),
            })
        });
        ended.collect()
    }

    fn batch(&self) -> usize {
        self.slot.batch()
    }

    fn merging(&self) -> Option<&Merging> {
        self.merging.as_ref()
    }

    fn room(&self) -> (Option<Duration>, usize) {
        self.gate.room()
    }

    fn crowded(&self, hands: usize) {
        self.gate.make_room(hands);
    }
}

/// How a lease ends that there is no delivery for.
fn stopped(stop: Stop) -> Result<Outcome, Error> {
    match stop {
        Stop::Park { cause, reason } => Ok(Outcome::Park { cause, reason }),
        Stop::Inbox(error) => Err(error),
    }
}

/// It was given up because it hung and others waited.
fn hung() -> Failure {
    Failure::transient("it did not answer, and was given up so that deliveries of other connections could go on")
}

/// What the end of a delivery says about the sink.
const fn meaning(result: &Result<(), delivery::Error>) -> Ended {
    let failure = match result {
        Ok(()) => return Ended::Good,
        Err(delivery::Error::Unreadable(_)) => return Ended::Dropped,
        Err(delivery::Error::Failed(failure)) => failure,
    };
    match failure.kind {
        FailureKind::Busy { after: Some(asked) } => Ended::Rest { asked, failed: false },
        FailureKind::Busy { after: None } => Ended::Rest { asked: Duration::ZERO, failed: false },
        FailureKind::Transient { after: Some(asked) } => Ended::Rest { asked, failed: true },
        FailureKind::Transient { after: None } => Ended::Failed,
        FailureKind::Refused { .. } | FailureKind::Gone => Ended::Refused,
    }
}

impl Route {
    /// The delivery of an entry, and leave to make it; or how the lease ends without one.
    async fn prepare(&self, lease: &Lease) -> Result<Ready<'_>, Result<Outcome, Error>> {
        if let Some(outcome) = self.left_out(lease).await.map_err(Err)? {
            self.figures.count(self.slot.name().as_str(), &outcome, Duration::ZERO, lease.entry.accepted);
            return Err(Ok(outcome));
        }
        if filters::lacks_fetch(lease) {
            return Err(Ok(Outcome::Unfetched));
        }
        let wait = |after: Duration, reason: String| {
            let due = clock::now().after(after + JITTER.mul_f64(fastrand::f64()));
            Err(Ok(Outcome::Postpone { due, reason }))
        };
        let turn = match self.gate.ask(lease.entry.connection.as_str(), room_for(self.hands, self.slot.batch())) {
            Asked::Go(turn) => turn,
            Asked::Wait { after, why } => return wait(after, format!("the sink {why}")),
            Asked::Full { .. } => return wait(Duration::ZERO, "the sink is given no more at once for now".to_owned()),
        };
        let mut span = spans::delivery(&self.tracer, lease, self.slot.name().as_str(), self.kind);
        match compose(&self.shelf, &self.source, lease.into(), span.place()).await {
            Ok(delivery) => Ok(Ready { delivery, turn, span }),
            Err(stop) => {
                span.failed("not_composed", "there was nothing to deliver");
                Err(stopped(stop))
            }
        }
    }

    /// How the lease of a delivery ends that is not to be made; `None`: it is to be made.
    async fn left_out(&self, lease: &Lease) -> Result<Option<Outcome>, Error> {
        let by = match &self.filter {
            Some(filter) => filters::left_out_by(filter, lease, &self.shelf).await?,
            None => None,
        };
        if let Some(by) = by {
            tracing::info!(
                code = "delivery_filtered",
                event.id = %lease.entry.event_id,
                delivery.id = %lease.entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %lease.entry.connection,
                sink = %self.slot.name(),
                filter = by,
                "event not delivered: the sink's filter leaves it out"
            );
            return Ok(Some(Outcome::Filtered { by }));
        }
        let is_dropped = lease.is_no_news && self.drops_stale;
        if is_dropped {
            tracing::info!(
                code = "delivery_stale",
                event.id = %lease.entry.event_id,
                delivery.id = %lease.entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %lease.entry.connection,
                sink = %self.slot.name(),
                "event not delivered: the sink was given something newer of the same connection and channel, and stale = \"drop\""
            );
        }
        Ok(is_dropped.then_some(Outcome::Superseded))
    }

    /// What becomes of the entry after an attempt.
    fn end(
        &self,
        lease: &Lease,
        (turn, mut span): (Turn<'_>, Span),
        attributes: &Attributes,
        result: Result<(), delivery::Error>,
        took: Duration,
    ) -> Result<Outcome, Error> {
        self.gate.end(turn, meaning(&result));
        spans::delivered(&mut span, attributes, || self.slot.server(), &result);
        let outcome = match result {
            Ok(()) => {
                self.gate.took(lease.entry.connection.as_str());
                Outcome::Done
            }
            Err(delivery::Error::Failed(failure)) => self.after(lease, failure),
            Err(delivery::Error::Unreadable(error)) => return Err(inbox_error(error)),
        };
        if lease.resumed.is_some() {
            self.gate.tried_again(outcome == Outcome::Done);
        }
        if matches!(&outcome, Outcome::Park { cause, .. } if cause.passes()) {
            self.gate.parked();
        }
        self.figures.count(self.slot.name().as_str(), &outcome, took, lease.entry.accepted);
        if outcome == Outcome::Done {
            self.figures.merged(self.slot.name().as_str(), lease.entry.merged.len());
        }
        self.log(lease, (attributes, &span), took, &outcome);
        self.attempts.tell((attributes, lease.attempts), (clock::now(), took), &outcome);
        Ok(outcome)
    }

    /// What becomes of the entry after a failed attempt.
    fn after(&self, lease: &Lease, failure: Failure) -> Outcome {
        let failed = Failed::of(lease, failure.reason, self.remedy());
        let failed = match failure.kind {
            FailureKind::Gone => {
                let reason = format!("{}: it will never take this entry", failed.reason);
                return Outcome::Park { cause: Cause::Gone, reason };
            }
            FailureKind::Refused { status } => self.refused(lease, status, failed),
            FailureKind::Transient { after } | FailureKind::Busy { after } => Failed { after, ..failed },
        };
        let policy = Policy { first: self.retry_first, longest: self.retry_longest, give_up_after: self.retry_for };
        policy.decide(failed, clock::now(), fastrand::u64(..))
    }

    /// A refusal, with what is known of it: by this entry, by others of the same connection, and of other connections.
    fn refused(&self, lease: &Lease, status: Option<u16>, failed: Failed) -> Failed {
        let kind = trust::Kind::new(status.unwrap_or_default(), None);
        let own = failed.own(clock::now());
        let verdict = self.gate.refused(lease.entry.connection.as_str(), kind, own, REFUSED);
        let (believed_as, remedy) = match verdict.whose {
            Whose::Neighbour => (Cause::Outage, self.remedy()),
            Whose::Connection => (Cause::Refused, BY_HAND),
        };
        Failed { doubt: Some(REFUSED), is_believed: verdict.park, believed_as, remedy, ..failed }
    }

    /// What a person can do about what the sink's trouble parked.
    const fn remedy(&self) -> &'static str {
        if self.resumes { "mend the sink; the entry then goes back in line by itself" } else { BY_HAND }
    }

    fn log(&self, lease: &Lease, (attributes, span): (&Attributes, &Span), took: Duration, outcome: &Outcome) {
        let entry = &lease.entry;
        let trace_id = span.trace_id();
        match outcome {
            Outcome::Retry { reason, .. } if !self.gate.is_first(reason) => tracing::debug!(
                code = "delivery_retried",
                event.id = %entry.event_id,
                delivery.id = %entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                trace_id,
                reason,
                "delivery failed; it is tried again"
            ),
            Outcome::Retry { due, reason, .. } => tracing::warn!(
                code = "delivery_retried",
                event.id = %entry.event_id,
                delivery.id = %entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                trace_id,
                attempts = lease.attempts,
                retry_in_ms = millis(due.since(clock::now())),
                reason,
                "delivery failed; it is tried again"
            ),
            Outcome::Park { reason, .. } => tracing::error!(
                code = "delivery_parked",
                event.id = %entry.event_id,
                delivery.id = %entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                trace_id,
                attempts = lease.attempts,
                reason,
                "delivery failed and the entry is parked; a person must act"
            ),
            _ => tracing::info!(
                code = "event_delivered",
                event.id = %entry.event_id,
                delivery.id = %entry.delivery_id,
                entry = lease.seq.0,
                connection.id = %entry.connection,
                sink = %self.slot.name(),
                trace_id,
                accounts.delivered = attributes.linxoaccounts,
                mismatch = attributes.linxomismatch,
                stale = attributes.linxostale,
                merged = attributes.linxomerged.len(),
                attempts = lease.attempts,
                duration_ms = millis(took),
                age_ms = millis(clock::now().since(entry.accepted)),
                "event delivered"
            ),
        }
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
