//! The way from the receiver into the inbox. No other file of `receive` knows what the inbox asks for and answers.
//!
//! In: events that were read, and what is kept of refused requests. Out: what became of an event, or the [`Refusal`] that
//! its caller is answered.

use super::problem::Refusal;
use base::clock::Timestamp;
use bytes::Bytes;
use event::{Event, EventId};
use inbox::{Folded, NewEntry, Seq, TraceParent};
use std::sync::Arc;

pub(super) use inbox::Refused;

/// An event that came, ready to be stored.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) event: Event,
    /// Exactly as it came.
    pub(super) body: Bytes,
    /// When its last byte came.
    pub(super) received: Timestamp,
    /// Whether it is only a hint (`sender.confirm`).
    pub(super) confirm: bool,
    /// The authenticated sender as JSON.
    pub(super) sender: String,
    /// The trace that the caller named.
    pub(super) trace: Option<TraceParent>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) outcome: Outcome,
    /// Of its entry, or of the one that it repeats, where that is known already.
    pub(super) seq: Option<Seq>,
    /// Whether the outcome holds. Else the fold decides it later, and tells ([`Intake::on_fold`]).
    pub(super) is_final: bool,
}

/// Whether an event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Stored and synced; whether it is new may show later.
    Accepted,
    /// Stored and synced beside another event with the same id and other content.
    Conflict,
    /// Stored before.
    Duplicate,
}

/// The inbox, as the receiver uses it.
#[derive(Clone, Debug)]
pub(super) struct Intake(Arc<dyn inbox::Intake>);

impl Intake {
    pub(super) fn new(intake: Arc<dyn inbox::Intake>) -> Self {
        Self(intake)
    }

    /// Stores an event; resolves when it is synced.
    pub(super) async fn accept(&self, arrival: Arrival) -> Result<Receipt, inbox::Error> {
        let Arrival { event, body, received, confirm, sender, trace } = arrival;
        let entry = NewEntry { event, body, received, confirm, sender: Some(sender), trace };
        let receipt = self.0.accept(entry).await?;
        if let Some(folded) = receipt.folded {
            let (outcome, seq) = outcome(folded);
            return Ok(Receipt { outcome, seq: Some(seq), is_final: true });
        }
        let outcome = if receipt.repeats { Outcome::Duplicate } else { Outcome::Accepted };
        Ok(Receipt { outcome, seq: None, is_final: false })
    }

    /// Asks to be told what became of events whose receipt was not final.
    pub(super) fn on_fold(&self, told: impl Fn(&EventId, Outcome, Seq) + Send + Sync + 'static) {
        self.0.on_fold(Box::new(move |fate| {
            let (outcome, seq) = outcome(fate.folded);
            told(&fate.event.id, outcome, seq);
        }));
    }

    /// Keeps refused requests for inspection.
    pub(super) async fn keep(&self, refused: Vec<Refused>) -> Result<(), inbox::Error> {
        self.0.refuse(refused).await
    }
}

fn outcome(folded: Folded) -> (Outcome, Seq) {
    match folded {
        Folded::Stored { seq, conflict: false } => (Outcome::Accepted, seq),
        Folded::Stored { seq, conflict: true } => (Outcome::Conflict, seq),
        Folded::Duplicate { seq } => (Outcome::Duplicate, seq),
    }
}

/// What a caller is answered when the inbox did not take its event.
pub(super) fn refusal_of(error: &inbox::Error) -> Refusal {
    match error {
        inbox::Error::Full(_) => Refusal::StoreFull,
        inbox::Error::Backlog | inbox::Error::JournalFull => Refusal::Backlog,
        inbox::Error::Closed => Refusal::Draining,
        inbox::Error::Store(_)
        | inbox::Error::Away(_)
        | inbox::Error::Unusable { .. }
        | inbox::Error::LeaseLost(_)
        | inbox::Error::Open { .. }
        | inbox::Error::Seal { .. } => Refusal::StoreUnavailable,
    }
}
