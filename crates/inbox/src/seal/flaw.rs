//! Why something cannot be sealed or opened.

use crate::Error;

/// Why an entry is parked whose body is sealed with a key that is nowhere.
pub(crate) const NO_KEY: &str = "the stored event is sealed, and its key is not in the keys store: put the newest copy of the keys store \
                                 back, then replay the entry";

/// See the head of this file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// Nobody said with which key.
    #[error("it is sealed, and inbox.key is not set")]
    NoKey,
    /// Another key file wrapped its key.
    #[error("it is sealed with a key that is none of those of inbox.key")]
    OtherKey,
    /// The keys store is older than the data.
    #[error("its data key is not in the keys store")]
    Missing,
    /// Its owner was erased.
    #[error("its data key was erased")]
    Erased,
    /// The bytes, their row or their owner are others.
    #[error("it is not what was sealed")]
    Changed,
    /// The system has no random bytes, or the cipher refuses.
    #[error("the cipher failed")]
    Cipher,
    /// The keys store cannot be read or written.
    #[error("the keys store failed")]
    Store(#[from] rusqlite::Error),
}

impl From<Flaw> for rusqlite::Error {
    /// For work inside a transaction, which then fails as a whole.
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Store(error) => error,
            flaw => Self::ToSqlConversionFailure(Box::new(flaw)),
        }
    }
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        Self::Store(Box::new(flaw))
    }
}
