//! What a person may ask for: everything that is held of them, and that it is erased.

use crate::{Error, ReadingId, RefusedView, Seq};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::{ConnectionId, UserId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose data is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A user: what names them, and what came of their connections and names nobody.
    User(UserId),
    /// A connection, whoever its users are.
    Connection(ConnectionId),
}

/// Everything that an inbox holds of somebody.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Their entries; first those that name no user, then by number.
    pub entries: Vec<Seq>,
    /// What was read of their connections.
    pub readings: Vec<HeldReading>,
    /// Refused requests whose kept start names them or one of their connections.
    pub refused: Vec<RefusedView>,
}

/// One reading of a connection, its pages apart ([`crate::Shelf`]).
#[derive(Clone, Debug)]
pub struct HeldReading {
    /// Its number.
    pub id: ReadingId,
    /// `resource.id`
    pub connection: ConnectionId,
    /// `resource.user_id`
    pub user: Option<UserId>,
    /// When it began.
    pub started: Timestamp,
    /// The connection's own JSON, where it was fetched.
    pub resource: Option<Bytes>,
}

/// What an erasure did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Entries that were deleted, whatever their state.
    pub entries: u64,
    /// Readings that were deleted.
    pub readings: u64,
    /// Refused requests that were deleted.
    pub refused: u64,
    /// Data keys that were erased: what they seal in backups cannot be read any more.
    pub keys: u64,
    /// Whether the inbox is sealed. Without a seal, backups keep the data.
    pub is_sealed: bool,
    /// What may still hold data of theirs in the inbox, one sentence each, with what to do. Empty: nothing.
    pub left: Vec<String>,
    /// What no erasure of this inbox reaches, one sentence each. An older service does not say.
    #[serde(default)]
    pub out_of_reach: Vec<String>,
}

/// What commands for a person's rights need of an inbox.
///
/// # Errors
/// [`Error::Store`], [`Error::Closed`]: try again later.
#[async_trait]
pub trait Persons: Send + Sync + fmt::Debug {
    /// Everything that is held of somebody.
    async fn held(&self, subject: &Subject) -> Result<Held, Error>;

    /// Erases everything that was accepted of somebody before the call. Work under way loses its leases. It may be called again,
    /// also after a call that failed.
    async fn erase(&self, subject: &Subject) -> Result<Erased, Error>;
}

/// Whether a text has an id as a whole word. A short id may be found in a number that means something else: a refused request
/// too many is deleted then, and none too few.
pub(crate) fn names_it(text: &[u8], id: &[u8]) -> bool {
    let is_word =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    !id.is_empty()
        && text.windows(id.len()).enumerate().any(|(at, found)| {
            let before = at.checked_sub(1).and_then(|at| text.get(at));
            found == id && !is_word(before) && !is_word(text.get(at + id.len()))
        })
}

#[cfg(test)]
mod tests {
    use super::names_it;

    #[test]
    fn an_id_is_found_as_a_whole_word() {
        let text = br#"{"id":"c-1","user_id":42,"note":"421"#;
        for (id, is_there) in [("c-1", true), ("42", true), ("421", true), ("c", false), ("4", false), ("", false)] {
            assert_eq!(names_it(text, id.as_bytes()), is_there, "{id}");
        }
    }
}
