//! Why the inbox could not do what was asked.

use crate::Seq;
use std::sync::Arc;

/// An error of the store's own library.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the inbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store has no room; nothing was stored.
    #[error("the inbox's disk is full")]
    Full(#[source] Option<Source>),
    /// The journal has as much of the disk as `inbox.journal_max` allows.
    #[error(
        "the journal holds as much as inbox.journal_max allows, because the inbox takes no events from it: another program may hold \
         the inbox locked, or it is damaged (`linxo-webhook inbox verify`)"
    )]
    JournalFull,
    /// As many unfinished entries as `inbox.max_waiting` allows.
    #[error("the inbox holds as many unfinished entries as inbox.max_waiting allows")]
    Backlog,
    /// The store failed; nothing was stored.
    #[error("the inbox's store failed")]
    Store(#[source] Source),
    /// The server of the store does not answer, or takes no writes now. What it was asked to do may have been done all the same.
    #[error("the server of the inbox's store does not answer")]
    Away(#[source] Source),
    /// The configuration or the server must be changed; the text says how.
    #[error("the inbox on PostgreSQL cannot be used: {problem}")]
    Unusable {
        /// What is wrong and what to do.
        problem: String,
    },
    /// The inbox is closed or its writer ended.
    #[error("the inbox is closed")]
    Closed,
    /// The lease has expired and the work was given to another, or was settled.
    #[error("the lease of entry {0} is no longer held")]
    LeaseLost(Seq),
    /// The seal of the inbox and what the configuration says of it do not fit together; the text says what to do.
    #[error("cannot open the seal of the inbox: {problem}")]
    Seal {
        /// What is wrong and what to do.
        problem: String,
        /// Why.
        #[source]
        source: Option<Source>,
    },
    /// The store cannot be opened; the text says what to do.
    #[error("cannot open the inbox {path}: {problem}")]
    Open {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        problem: String,
        /// The store's own words.
        #[source]
        source: Option<Source>,
    },
}

impl Error {
    /// The same answer to each of those who asked together. What only concerns the store as a whole can be answered like this.
    pub(crate) fn shared_by<T>(self, count: usize) -> Vec<Result<T, Self>> {
        let shared = Arc::new(self);
        let again = |_| {
            let source: Source = Box::new(Arc::clone(&shared));
            Err(match *shared {
                Self::Closed => Self::Closed,
                Self::Full(_) => Self::Full(Some(source)),
                Self::Away(_) => Self::Away(source),
                _ => Self::Store(source),
            })
        };
        (0..count).map(again).collect()
    }
}
