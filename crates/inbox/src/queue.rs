//! The queue of work: taking leases, prolonging them, and the ways in which they end.

use crate::{Error, Found, Lease, Merging, ReadingId, Stage};
use async_trait::async_trait;
use base::clock::Timestamp;
use event::{ConnectionId, UserId};
use std::{fmt, time::Duration};

/// How a worker ends its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stage is done.
    Done,
    /// The fetch is done; `reading` holds what was fetched.
    Fetched {
        /// Where it is.
        reading: ReadingId,
        /// What is in it.
        found: Found,
    },
    /// The fetch is done: there is nothing to fetch, because the connection is gone.
    Gone,
    /// Try again, not before `due`.
    Retry {
        /// Earliest time of the next attempt.
        due: Timestamp,
        /// One sentence for people.
        reason: String,
        /// Whether the other side answered: this failure then adds to the run of [`Doubts`](crate::Doubts). If not, the run
        /// ends.
        is_doubtful: bool,
    },
    /// The delivery is done without being made: what was delivered of the same connection and channel is newer
    /// ([`Lease::is_stale`]).
    Superseded,
    /// The delivery is done without being made: the sink's filter leaves the event out.
    Filtered {
        /// The key of the filter that does.
        by: &'static str,
    },
    /// The fetch is done without being made: the filter of every sink leaves the event out.
    Unneeded,
    /// Not tried, because it needs a fetch that ended as [`Unneeded`](Self::Unneeded): that one goes back in line, and this waits
    /// for it. The attempt does not count.
    Unfetched,
    /// Stop until a person acts, or until the cause is gone.
    Park {
        /// What kind of trouble it is.
        cause: Cause,
        /// One sentence for people: what happened and what to do.
        reason: String,
    },
    /// Not tried, because the other side is left alone: the attempt does not count, nor does it begin a run of failures.
    Postpone {
        /// Earliest time of the next attempt.
        due: Timestamp,
        /// One sentence for people.
        reason: String,
    },
    /// Not tried after all (shutdown): the attempt does not count.
    GiveBack,
}

/// What kind of trouble parked a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The event leaves something out, and this version cannot tell what.
    Unclear,
    /// What the stage needs was parked.
    Needs,
    /// The other side refused it, and was believed.
    Refused,
    /// The other side refused several connections, with no success between, and was believed. The stage goes back in line when
    /// the other side is well again.
    Outage,
    /// The other side will never take it.
    Gone,
    /// It failed for as long as it may.
    GaveUp,
    /// A limit of our own.
    Limit,
    /// The API does not confirm what the event claims.
    Unconfirmed,
    /// Credentials are missing or were not good enough. The stage goes back in line when the credentials are other ones.
    Credentials(CredentialsMark),
    /// The process ended or hung again and again while it worked on this.
    Lost,
    /// What is stored is not what was accepted.
    Damaged,
    /// An operator parked it.
    Operator,
}

impl Cause {
    /// The word for it: in the store, in output and in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::Needs => "needs",
            Self::Refused => "refused",
            Self::Outage => "outage",
            Self::Gone => "gone",
            Self::GaveUp => "gave_up",
            Self::Limit => "limit",
            Self::Unconfirmed => "unconfirmed",
            Self::Credentials(_) => "credentials",
            Self::Lost => "lost",
            Self::Damaged => "damaged",
            Self::Operator => "operator",
        }
    }

    /// Whether it is trouble of the other side that passes: the stage then goes back in line by itself ([`crate::Sinks::resume`]).
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Outage | Self::GaveUp)
    }

    /// The cause that a word stands for. `None`: the word is of another version.
    #[must_use]
    pub fn parse(word: &str, credentials: Option<CredentialsMark>) -> Option<Self> {
        Some(match word {
            "unclear" => Self::Unclear,
            "needs" => Self::Needs,
            "refused" => Self::Refused,
            "outage" => Self::Outage,
            "gone" => Self::Gone,
            "gave_up" => Self::GaveUp,
            "limit" => Self::Limit,
            "unconfirmed" => Self::Unconfirmed,
            "credentials" => Self::Credentials(credentials?),
            "lost" => Self::Lost,
            "damaged" => Self::Damaged,
            "operator" => Self::Operator,
            _ => return None,
        })
    }
}

/// A fingerprint of credentials that were not good enough. Other credentials have another one, and nothing of them can be read
/// from it. The inbox only compares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialsMark(String);

impl CredentialsMark {
    /// Wraps a text.
    #[must_use]
    pub fn new(mark: impl Into<String>) -> Self {
        Self(mark.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parked work that waits for other credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Awaiting {
    /// The user, if the events name one.
    pub user: Option<UserId>,
    /// The connection.
    pub connection: ConnectionId,
    /// Fingerprint of the credentials that were not good enough.
    pub credentials: CredentialsMark,
}

/// Which parked work goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The work that was parked with this fingerprint.
    pub credentials: CredentialsMark,
    /// Of this user; `None`: of events that name none, and of all users.
    pub user: Option<UserId>,
    /// Of this connection; `None`: of all.
    pub connection: Option<ConnectionId>,
}

/// What a stage's worker got: leases, and when to look again.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Work to do.
    pub leases: Vec<Lease>,
    /// When the next stage falls due, if any waits for a time.
    pub next_due: Option<Timestamp>,
}

/// What the work loops need of an inbox.
///
/// Every method is cancel safe in this sense: when its future is dropped, the change either happens whole or not at all.
#[async_trait]
pub trait Queue: Send + Sync + fmt::Debug {
    /// Leases up to `limit` due stages for `lease_for`, oldest due first.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn claim(&self, stage: &Stage, limit: usize, lease_for: Duration) -> Result<Claimed, Error> {
        self.claim_merged(stage, limit, lease_for, None).await
    }

    /// As [`claim`](Self::claim); with `merging`, of a sink that is given events of one connection that wait together as one delivery.
    /// The lease of a group is that of its first stage; [`Facts::merged`](crate::Facts::merged) lists the others, which leave their line
    /// with it. Who is in a group is stored together with its first lease, and stays.
    ///
    /// # Errors
    /// Those of [`claim`](Self::claim).
    async fn claim_merged(
        &self,
        stage: &Stage,
        limit: usize,
        lease_for: Duration,
        merging: Option<&Merging>,
    ) -> Result<Claimed, Error>;

    /// Resolves when work may have come up for a stage since it last resolved; a wake-up that nobody waits for is kept.
    async fn wake(&self, stage: &Stage);

    /// Prolongs a lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: stop working, do not settle.
    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error>;

    /// Ends leases, in their order and in one commit. Each ends by itself: the results are in the same order, and a lease that
    /// cannot be settled keeps no other from being settled.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: another has it; its outcome counts, not this one. [`Error::Store`], [`Error::Full`],
    /// [`Error::Closed`]: it is held as before.
    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>>;

    /// Parked work that waits for other credentials: each combination of user, connection and fingerprint once. With `user`,
    /// only that user's.
    ///
    /// # Errors
    /// [`Error::Store`]: ask again later.
    async fn awaiting(&self, user: Option<&UserId>) -> Result<Vec<Awaiting>, Error>;

    /// Puts up to `limit` entries back in line whose fetch waits for other credentials, the oldest first; says how many there
    /// were. Deliveries that need the fetch go back too. Work that was parked for another reason stays parked.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Full`], [`Error::Closed`]: ask again later.
    async fn resume(&self, which: &Resume, limit: usize) -> Result<u64, Error>;
}
