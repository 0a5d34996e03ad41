//! What happens in an inbox, for who looks on: one [`Happening`] for each event that is accepted, completed, delivered, to be
//! tried again or parked, in the order of the commits.
//!
//! The store keeps the newest happenings in memory, as numbers and reasons, and looks the rest up for who asks. So it costs the
//! work next to nothing, whether somebody looks on or not; and who is slow holds up nobody, but misses the oldest ones, and is told
//! how many. What another process does to the store is not among them.

use crate::{DeliveryId, Error, Seq, Stage};
use async_trait::async_trait;
use base::clock::Timestamp;
use event::{ConnectionId, UserId};
use std::fmt;

/// What happened to an entry or to one of its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The entry is new.
    Accepted,
    /// What the event left out is there, or there is nothing to fetch any more.
    Completed,
    /// A sink took the delivery.
    Delivered,
    /// The delivery was left out: what the sink has is newer, or its filter asks for other events.
    Dropped,
    /// An attempt failed; there will be another one.
    Waiting,
    /// A person must act, or the cause must go.
    Parked,
}

impl What {
    /// The word for it in output and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Completed => "completed",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// To which entry.
    pub seq: Seq,
    /// Which part of its work; `None`: the entry as a whole.
    pub stage: Option<Stage>,
    /// Why, in one sentence.
    pub reason: Option<String>,
    /// When it is tried again.
    pub due: Option<Timestamp>,
    /// What the entry is about; `None`: it has been deleted since.
    pub about: Option<About>,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The id under which it is delivered.
    pub delivery_id: DeliveryId,
    /// The connection.
    pub connection: ConnectionId,
    /// The user, if the event names one.
    pub user: Option<UserId>,
}

/// Some of what happened.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// In order.
    pub happenings: Vec<Happening>,
    /// How many of those that were asked for are not kept any more.
    pub missed: u64,
    /// Where to go on: the number of the happening behind the last one.
    pub next: u64,
}

/// What those need of an inbox who look on.
#[async_trait]
pub trait Watch: Send + Sync + fmt::Debug {
    /// The number of the next thing to happen. The first one since the inbox was opened has the number 0.
    fn next(&self) -> u64;

    /// What happened from a number on, at most `limit`; waits until something has.
    ///
    /// # Errors
    /// [`Error::Closed`]: nothing will happen any more. [`Error::Store`]: ask again later.
    ///
    /// # Cancel safety
    /// Changes nothing.
    async fn seen(&self, from: u64, limit: usize) -> Result<Seen, Error>;
}
