//! What is asked for and told about an erasure.

use inbox::{Erased, Subject};
use serde::{Deserialize, Serialize};

/// Whose data is to be erased: either of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Erase {
    /// A user, by `resource.user_id`.
    User(String),
    /// A connection, by `resource.id`.
    Connection(String),
}

impl From<Erase> for Subject {
    fn from(erase: Erase) -> Self {
        match erase {
            Erase::User(id) => Self::User(event::UserId::new(id)),
            Erase::Connection(id) => Self::Connection(event::ConnectionId::new(id)),
        }
    }
}

/// What an erasure did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Entries that were deleted.
    pub entries: u64,
    /// Readings of connections that were deleted.
    pub readings: u64,
    /// Refused requests that were deleted.
    pub refused: u64,
    /// Data keys that were erased.
    pub keys: u64,
    /// Whether the inbox is sealed.
    pub is_sealed: bool,
    /// What may be left in the inbox, one sentence each.
    pub left: Vec<String>,
}

impl From<Erased> for Erasure {
    fn from(erased: Erased) -> Self {
        let Erased { entries, readings, refused, keys, is_sealed, left } = erased;
        Self { entries, readings, refused, keys, is_sealed, left }
    }
}
