//! A lease on a stage, and what a worker knows of the entry that it works on.

use crate::{DeliveryId, ReadingId, Seq, Stage, Token, TraceParent};
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, EventId, UserId};
use std::{cmp::Ordering, fmt, sync::Arc};

/// Work handed to one worker for a limited time.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Which entry.
    pub seq: Seq,
    /// Which part of its work.
    pub stage: Stage,
    /// Proves the holder.
    pub token: Token,
    /// When the stage may be leased to another.
    pub expires: Timestamp,
    /// How often the stage was leased, this one included. Stored before the work begins.
    pub attempts: u32,
    /// When the first of an unbroken run of failures happened.
    pub failing_since: Option<Timestamp>,
    /// The run of doubtful failures that the last try ended with.
    pub doubts: Doubts,
    /// When the stage last went back in line by itself ([`crate::Sinks::resume`]).
    pub resumed: Option<Timestamp>,
    /// Whether this sink has been given something newer of the same connection and channel ([`Facts::as_of`]). Of events that leave
    /// together: whether that holds for the one with the newest accounts.
    pub is_stale: bool,
    /// Whether it holds for every one of them, each by its own channel: nothing of it is news.
    pub is_no_news: bool,
    /// What the entry is about.
    pub entry: Arc<Facts>,
    /// The event exactly as it came.
    pub body: Bytes,
    /// Tells the store that somebody here works on it.
    pub hold: Hold,
}

/// A guard in every copy of a lease. When the last copy is dropped, the store knows that nobody in this process works on the
/// stage any more.
pub type Hold = Arc<dyn fmt::Debug + Send + Sync>;

/// An unbroken run of failures in which the other side answered. Such an answer may be meant, or be the mistake of something in
/// between, such as a proxy or a deployment. A failure without an answer, such as a timeout, ends the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// How many.
    pub tries: u32,
    /// When the first of them happened.
    pub since: Option<Timestamp>,
}

/// The facts of an entry that work needs, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The event's own id.
    pub event_id: EventId,
    /// The id under which it is delivered.
    pub delivery_id: DeliveryId,
    /// `event_type`, as sent.
    pub event_type: String,
    /// `resource_type`, as sent.
    pub resource_type: String,
    /// The connection.
    pub connection: ConnectionId,
    /// The user, if the event named one.
    pub user: Option<UserId>,
    /// The channel, if the event named one.
    pub channel: Option<ChannelDefinitionId>,
    /// The channel's mode, if found.
    pub mode: Option<String>,
    /// The connection's status, if the event had one.
    pub status: Option<String>,
    /// The bank, if the event named one.
    pub provider: Option<String>,
    /// Whether there are new transactions, if the event said so.
    pub new_transactions: Option<bool>,
    /// Seconds since the epoch, from the event.
    pub created: Option<i64>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// The announced number of accounts.
    pub account_count: Option<u64>,
    /// Accounts that the event itself lists.
    pub listed: u64,
    /// Whether it is only a hint ([`crate::NewEntry::confirm`]).
    pub confirm: bool,
    /// Its place in a trace.
    pub trace: Option<TraceParent>,
    /// What was fetched for it, where something had to be.
    pub fetched: Option<Fetched>,
    /// How new its accounts are.
    pub as_of: AsOf,
    /// The events that leave together as this one delivery, in the order of their line; empty: this one alone. The other facts are
    /// then those of the event with the newest accounts, and `delivery_id` is that of the group.
    pub merged: Vec<Member>,
}

/// How new accounts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The time for which they hold: when reading them began; for accounts that the event lists, when it was accepted.
    pub at: Timestamp,
    /// The entry of the event that lists them. `None`: they were read; what two entries have of one reading is equally new.
    pub listed_by: Option<Seq>,
}

impl AsOf {
    /// Whether these accounts are newer. Of two events that were accepted in one millisecond, the one behind in its line is.
    fn is_newer_than(self, other: Self) -> bool {
        match self.at.cmp(&other.at) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.listed_by.zip(other.listed_by).is_some_and(|(own, other)| own > other),
        }
    }

    /// Whether they are late where `delivered` is what a sink has. One from the future was noted before the clock was set back, and
    /// says nothing.
    pub(crate) fn is_late_behind(self, delivered: Self, now: Timestamp) -> bool {
        delivered.is_newer_than(self) && delivered.at <= now
    }

    /// Reads what [`Self::number`] wrote.
    pub(crate) fn of(at: Timestamp, number: i64) -> Self {
        Self { at, listed_by: (number != 0).then_some(Seq(number)) }
    }

    /// The entry as a store writes it; 0: none.
    pub(crate) fn number(self) -> i64 {
        self.listed_by.map_or(0, |seq| seq.0)
    }
}

/// One of several events that leave as one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which entry.
    pub seq: Seq,
    /// The id under which it would be delivered by itself.
    pub delivery_id: DeliveryId,
    /// Its channel.
    pub channel: Option<ChannelDefinitionId>,
    /// What it says of new transactions.
    pub new_transactions: Option<bool>,
}

impl Facts {
    /// The channels that a delivery tells of.
    pub(crate) fn channels(&self) -> impl Iterator<Item = Option<&ChannelDefinitionId>> {
        let others = self.merged.iter().map(|member| member.channel.as_ref());
        std::iter::once(self.channel.as_ref()).chain(others.filter(|channel| *channel != self.channel.as_ref()))
    }
}

/// How the fetch of an entry's accounts ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its accounts were read.
    Read {
        /// The reading that holds the pages.
        reading: ReadingId,
        /// What is in it.
        found: Found,
    },
    /// The API does not know the connection any more: there are none to read.
    Gone,
}

/// What a finished reading holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Distinct accounts.
    pub accounts: u64,
    /// Items of the list that are no accounts, such as `null`: they came, and cannot be used.
    pub unusable: u64,
    /// How sure that is.
    pub certainty: Certainty,
}

impl Found {
    /// Everything that came.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.accounts.saturating_add(self.unusable)
    }

    /// Whether this differs from what the event announced, is not certain, or has something that could not be used. The number
    /// that a hint announces is never compared.
    #[must_use]
    pub fn differs(&self, entry: &Facts) -> bool {
        let is_other = !entry.confirm && entry.account_count.is_some_and(|announced| announced != self.accounts);
        is_other || self.unusable > 0 || self.certainty == Certainty::Unsettled
    }

    /// What is missing of an announced number.
    #[must_use]
    pub fn shortfall(&self, announced: u64) -> Option<Shortfall> {
        let missing = announced.saturating_sub(self.received());
        (missing > 0).then_some(Shortfall::Accounts(missing))
    }
}

/// What was missing when a connection was last completed. When the same is missing again, the list is not one that is not
/// ready yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// So many of the announced accounts.
    Accounts(u64),
    /// The connection itself: the API did not know it.
    Connection,
}

/// Why a list of accounts was taken to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It is as long as the event announced, and no page contradicted another. This is certain only for events that announced
    /// this number.
    AsAnnounced,
    /// It was read until two passes agreed.
    Agreed,
    /// The list changed with every pass. Everything that was seen is in it, even accounts that may be gone.
    Unsettled,
}
