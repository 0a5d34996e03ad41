//! Who takes events into this inbox: one row for each running receiver, so that whoever looks at one of them sees all of them.
//!
//! A receiver reports itself once a minute, and when its readiness changes. One that ends in good order takes its row away. Of one that
//! was killed the row stays for a day, as one that was not heard of; it goes when another one of the same machine is started and
//! three minutes have passed.

use crate::Error;
use async_trait::async_trait;
use base::clock::Timestamp;
use std::{fmt, time::Duration};

/// For how long one that is not heard of is kept.
pub(crate) const KEPT: Duration = Duration::from_hours(24);
/// For how long where another one of the same name reports itself.
pub(crate) const KEPT_BESIDE: Duration = Duration::from_mins(3);

/// A receiver, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Of this start: another one has another.
    pub id: String,
    /// Of its machine or pod.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// When it was started.
    pub since: Timestamp,
    /// Why it would take no event now; `None`: it is ready.
    pub obstacle: Option<String>,
}

/// A receiver, and when it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverView {
    /// What it said then.
    pub receiver: Receiver,
    /// When that was.
    pub seen: Timestamp,
}

/// What is asked of an inbox about its receivers.
///
/// # Errors
/// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: nothing was changed; try again later.
#[async_trait]
pub trait Receivers: Send + Sync + fmt::Debug {
    /// Notes what a receiver says of itself, and forgets others that were not heard of for long.
    async fn report(&self, receiver: &Receiver) -> Result<(), Error>;

    /// Takes a receiver out that ends.
    async fn leave(&self, id: &str) -> Result<(), Error>;

    /// Every receiver, by name.
    async fn receivers(&self) -> Result<Vec<ReceiverView>, Error>;
}
