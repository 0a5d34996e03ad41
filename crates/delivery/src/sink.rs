//! The interface of every destination: what is handed over, and what may come of it.

use crate::{
    attributes::Attributes,
    body::{Body, BodyError},
};
use async_trait::async_trait;
use base::{clock::Timestamp, trace::TraceParent};
use std::time::Duration;

/// One hand-over of one entry to one sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The `CloudEvents` context attributes.
    pub attributes: Attributes,
    /// The completed event.
    pub body: Body,
    /// The place of this attempt in its trace. It goes along where the protocol has room for it: in the headers `traceparent`
    /// and `tracestate`, and as the `CloudEvents` extension of these names in the structured form.
    pub trace: Option<TraceParent>,
    /// The time for which its accounts hold: what has an older one is older news of the same connection.
    pub as_of: Timestamp,
}

/// A destination.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands over one entry. Returns `Ok` only after the destination has it. Never tries again by itself.
    ///
    /// # Errors
    /// [`Error::Failed`] where the destination did not take it; [`Error::Unreadable`] where there was nothing whole to take.
    ///
    /// # Cancel safety
    /// When dropped half-way, the destination may or may not have the entry; it is delivered again with the same id.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error>;

    /// Hands over several entries, and answers each in its place. They are independent of each other: after one that fails
    /// the next ones are tried all the same. So of entries that must arrive in order, one batch holds only the first.
    ///
    /// # Cancel safety
    /// As for [`deliver`](Sink::deliver), for each of them.
    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            results.push(self.deliver(delivery).await);
        }
        results
    }

    /// How many deliveries this sink likes to get at once; at least 1. More are taken as well.
    fn batch(&self) -> usize {
        1
    }

    /// Host and port of the server that it calls, where it calls one; for traces.
    fn server(&self) -> Option<(&str, u16)> {
        None
    }

    /// Opens files again by name (SIGHUP, after log rotation). Nothing to do for most kinds.
    ///
    /// # Errors
    /// Why it could not; the sink goes on as before.
    async fn reopen(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Why an entry was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The destination's doing.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The body could not be read. That says nothing about the destination, and must not be counted against it.
    #[error(transparent)]
    Unreadable(#[from] BodyError),
}

/// What a destination did instead of taking a delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What follows from it.
    pub kind: FailureKind,
    /// The HTTP status that the destination answered with, where it is one that speaks HTTP and answered.
    pub status: Option<u16>,
    /// One sentence for people: what the destination said or did. Never quotes bodies or secrets.
    pub reason: String,
}

impl Failure {
    /// A failure without an HTTP status.
    #[must_use]
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, status: None, reason: reason.into() }
    }

    /// A failure that is worth retrying when the worker's own backoff says so.
    #[must_use]
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::new(FailureKind::Transient { after: None }, reason)
    }
}

/// What follows from a failed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Worth retrying; `after` is the destination's own wish (`Retry-After`).
    Transient {
        /// Not before this long.
        after: Option<Duration>,
    },
    /// The destination works, and wants to be asked later (429): its connection rests, and so does the sink when other
    /// connections are told the same.
    Busy {
        /// Not before this long, where it said so (`Retry-After`).
        after: Option<Duration>,
    },
    /// Refused, and probably for good: parked when it was refused again and again over some time.
    Refused {
        /// The HTTP status of the refusal, where there is one: one kind of refusal is told from another by it.
        status: Option<u16>,
    },
    /// The destination will never take this entry: parked at once.
    Gone,
}
