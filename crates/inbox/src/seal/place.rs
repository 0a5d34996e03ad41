//! What a sealed value belongs to, and where it stands. Both are bound to it: a value that is moved cannot be opened.

use base::clock::Timestamp;
use event::{ConnectionId, Event, UserId};

/// Whose data a key seals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// What came of a connection, for one user or for none that is named. Two users of one connection have two keys, so that to
    /// erase one of them leaves the other.
    Connection {
        /// `resource.id`
        connection: String,
        /// `resource.user_id`
        user: Option<String>,
    },
    /// Requests that were refused on a day, counted from 1970.
    Day(i64),
}

impl Owner {
    /// The owner of what came of a connection.
    pub(crate) fn new(connection: &str, user: Option<&str>) -> Self {
        Self::Connection { connection: connection.to_owned(), user: user.map(str::to_owned) }
    }

    /// The owner of an event.
    pub(crate) fn of(event: &Event) -> Self {
        Self::of_ids(&event.connection, event.user.as_ref())
    }

    /// As [`new`](Self::new).
    pub(crate) fn of_ids(connection: &ConnectionId, user: Option<&UserId>) -> Self {
        Self::new(connection.as_str(), user.map(UserId::as_str))
    }

    /// The owner of a request that was refused then.
    pub(crate) const fn day(at: Timestamp) -> Self {
        Self::Day(at.as_millis().div_euclid(86_400_000))
    }
}

/// Where a sealed value stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The body of an entry, by its number.
    Body(i64),
    /// A page of a reading.
    Page(i64, u32),
    /// The connection that a reading fetched.
    Resource(i64),
    /// How a refused body began, by the number of the request.
    Refused(i64),
}

impl Place {
    /// What is authenticated with a value that is sealed here for this owner.
    pub(crate) fn bytes(self, owner: &Owner) -> Vec<u8> {
        let (kind, number, part) = match self {
            Self::Body(seq) => (b'b', seq, 0),
            Self::Page(reading, number) => (b'p', reading, number),
            Self::Resource(reading) => (b'r', reading, 0),
            Self::Refused(number) => (b'x', number, 0),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&part.to_le_bytes());
        match owner {
            Owner::Connection { connection, user } => {
                bytes.push(if user.is_some() { 2 } else { 1 });
                bytes.extend_from_slice(&(connection.len() as u64).to_le_bytes());
                bytes.extend_from_slice(connection.as_bytes());
                bytes.extend_from_slice(user.as_deref().unwrap_or_default().as_bytes());
            }
            Owner::Day(day) => {
                bytes.push(0);
                bytes.extend_from_slice(&day.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_places_look_alike() {
        let owners = [
            Owner::new("ab", None),
            Owner::new("ab", Some("")),
            Owner::new("a", Some("b")),
            Owner::new("ab", Some("c")),
            Owner::Day(1),
            Owner::day(Timestamp::from_millis(2 * 86_400_000 + 5)),
        ];
        let places = [
            Place::Body(1),
            Place::Body(2),
            Place::Page(1, 0),
            Place::Page(1, 1),
            Place::Resource(1),
            Place::Refused(1),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for owner in &owners {
            for place in places {
                assert!(seen.insert(place.bytes(owner)), "{place:?} of {owner:?}");
            }
        }
        assert_eq!(owners[5], Owner::Day(2));
    }
}
