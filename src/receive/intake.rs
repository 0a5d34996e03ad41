//! The way from the receiver into the inbox. No other file of `receive` knows what the inbox asks for and answers.
//!
//! In: events that were read, and what is kept of refused requests. Out: what became of an event, or the [`Refusal`] that
//! its caller is answered.

use super::problem::Refusal;
use crate::inbox::{self, Accepted, Inbox, NewEntry, Seq};
use base::clock::Timestamp;
use bytes::Bytes;
use event::Event;
use std::sync::Arc;

pub(super) use crate::inbox::Refused;

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
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) outcome: Outcome,
    /// Of its entry, or of the one that it repeats.
    pub(super) seq: Seq,
}

/// Whether an event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Stored and synced.
    Accepted,
    /// Stored and synced beside another event with the same id and other content.
    Conflict,
    /// Stored before.
    Duplicate,
}

/// The inbox, as the receiver uses it.
#[derive(Clone, Debug)]
pub(super) struct Intake(Arc<dyn Inbox>);

impl Intake {
    pub(super) fn new(inbox: Arc<dyn Inbox>) -> Self {
        Self(inbox)
    }

    /// Stores an event; resolves when it is synced.
    pub(super) async fn accept(&self, arrival: Arrival) -> Result<Receipt, inbox::Error> {
        let Arrival { event, body, received, confirm, sender } = arrival;
        Ok(match self.0.accept(NewEntry { event, body, received, confirm, sender: Some(sender) }).await? {
            Accepted::Stored { seq, conflict: false } => Receipt { outcome: Outcome::Accepted, seq },
            Accepted::Stored { seq, conflict: true } => Receipt { outcome: Outcome::Conflict, seq },
            Accepted::Duplicate { seq } => Receipt { outcome: Outcome::Duplicate, seq },
        })
    }

    /// Keeps refused requests for inspection.
    pub(super) async fn keep(&self, refused: Vec<Refused>) -> Result<(), inbox::Error> {
        self.0.refuse(refused).await
    }
}

/// What a caller is answered when the inbox did not take its event.
pub(super) fn refusal_of(error: &inbox::Error) -> Refusal {
    match error {
        inbox::Error::Full(_) => Refusal::StoreFull,
        inbox::Error::Backlog => Refusal::Backlog,
        inbox::Error::Closed => Refusal::Draining,
        inbox::Error::Store(_) | inbox::Error::LeaseLost(_) | inbox::Error::Open { .. } => Refusal::StoreUnavailable,
    }
}
