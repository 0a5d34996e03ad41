//! The way in: an event becomes durable, then it is answered.
//!
//! [`Intake::accept`] resolves when the event is on disk, at a [`Position`] of the record of accepted events. Making
//! entries and stages of it is the fold's work. Where the store does both in one transaction, the receipt says at once
//! what the fold made of the event; where a fold comes later, it does not.

use crate::{Error, Position, Seq, TraceParent};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::Event;
use std::fmt;

/// An event about to be accepted.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// What was read from the body.
    pub event: Event,
    /// The body, exactly as it came.
    pub body: Bytes,
    /// When its last byte came.
    pub received: Timestamp,
    /// Whether it is only a hint: its resource is fetched from the API, and what it says itself is not delivered.
    pub confirm: bool,
    /// Who sent it, as one JSON object without secrets (peer address, identity of the client certificate).
    pub sender: Option<String>,
    /// Its place in a trace: the one that its receipt has, or the one that the caller named.
    pub trace: Option<TraceParent>,
}

/// Proof that an event is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where it stands in the record of accepted events.
    pub position: Position,
    /// What the fold made of it, where that is known already.
    pub folded: Option<Folded>,
    /// Whether the same content was accepted before, as far as that is known without the store. The fold decides.
    pub repeats: bool,
}

/// What the fold made of an accepted event, told to who asked for it ([`Intake::on_fold`]).
#[derive(Clone, Copy, Debug)]
pub struct Fate<'a> {
    /// Where the event stands in the record of accepted events.
    pub position: Position,
    /// The event.
    pub event: &'a Event,
    /// What became of it.
    pub folded: Folded,
}

/// Is told of every event that is folded after it was answered. It is called between two transactions, so it must be quick.
pub type Told = Box<dyn Fn(&Fate<'_>) + Send + Sync>;

/// What became of an accepted event in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// A new entry.
    Stored {
        /// Its number.
        seq: Seq,
        /// Whether another event with the same id but other content was there before.
        conflict: bool,
    },
    /// The same content is there already.
    Duplicate {
        /// Number of the first one.
        seq: Seq,
    },
}

/// A request that was refused, to be kept for inspection.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When it was answered.
    pub at: Timestamp,
    /// Who sent it, as one JSON object without secrets.
    pub sender: String,
    /// The `code` of the answer.
    pub reason: &'static str,
    /// The status of the answer; 0: the connection was ended without one.
    pub status: u16,
    /// Bytes of the body that came or were announced, if known.
    pub size: Option<u64>,
    /// How the body began; only of senders that are known.
    pub start: Option<Bytes>,
    /// Whether its sender is known: by a certificate, a path secret or its network.
    pub is_known: bool,
}

/// What the receiver needs of an inbox.
#[async_trait]
pub trait Intake: Send + Sync + fmt::Debug {
    /// Makes an event durable.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Backlog`], [`Error::Store`], [`Error::Closed`]: nothing was promised; answer 503.
    ///
    /// # Cancel safety
    /// When dropped, the event is stored whole or not at all.
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error>;

    /// Whether an event would be accepted now: what must be synced before the answer can be written, there is room, and the
    /// inbox is under `max_waiting`.
    ///
    /// # Errors
    /// Those of [`accept`](Intake::accept).
    fn ready(&self) -> Result<(), Error>;

    /// Waits until an accepted event is folded, and says what became of it; `None`: that is not remembered any more.
    ///
    /// # Errors
    /// [`Error::Closed`]: the inbox was closed before.
    async fn fate(&self, receipt: &Receipt) -> Result<Option<Folded>, Error> {
        Ok(receipt.folded)
    }

    /// Asks to be told what becomes of events whose [`Receipt`] does not say so. The first to ask is told.
    fn on_fold(&self, told: Told) {
        drop(told);
    }

    /// Keeps refused requests for inspection: the newest, as many as `inbox.refused` allows. Those of known senders are
    /// displaced only by their like.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Store`], [`Error::Closed`]: they are not kept.
    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error>;
}
