//! What an accepted event becomes: the keys by which the same content is recognised, the id under which it is delivered,
//! its line, and the stages of its work. Pure; a back end stores the result.

use crate::{DeliveryId, Keys, NewEntry, rules};
use event::Compact;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

/// An accepted event with everything that can be computed outside a transaction.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entry: NewEntry,
    /// Of the body as it came: tells whether what is read back is what was written.
    pub(crate) digest: [u8; 32],
    pub(crate) content: ContentKey,
    /// The line that entries of its connection stand in.
    pub(crate) line: i64,
    pub(crate) plan: rules::Plan,
}

/// Recognises the same content: 64 bits of a keyed hash of the id, and 64 bits of that of the body without insignificant
/// white space. Unique together in a store. The key is the store's own, so that no sender can make two events collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ContentKey {
    pub(crate) id: i64,
    pub(crate) body: i64,
}

impl Record {
    pub(crate) fn new(entry: NewEntry, keys: &Keys) -> Self {
        let content = ContentKey::new(keys, entry.event.id.as_str(), &entry.body);
        Self::with_content(entry, content)
    }

    /// As [`new`](Self::new), where the key of its content was computed before.
    pub(crate) fn with_content(entry: NewEntry, content: ContentKey) -> Self {
        Self {
            digest: Sha256::digest(&entry.body).into(),
            content,
            line: line(entry.event.connection.as_str()),
            plan: rules::plan(&entry.event, entry.confirm),
            entry,
        }
    }
}

impl ContentKey {
    pub(crate) fn new(keys: &Keys, id: &str, body: &[u8]) -> Self {
        let mut hasher = hasher(keys);
        Compact::default().runs(body, |run| hasher.write(run));
        Self { id: id_key(keys, id), body: hasher.finish().cast_signed() }
    }

    /// The key of the same event by its bytes as they came, white space included.
    pub(crate) fn of_bytes(self, keys: &Keys, body: &[u8]) -> Self {
        Self { body: hash(keys, body), ..self }
    }
}

/// Finds the entries of an event id.
pub(crate) fn id_key(keys: &Keys, id: &str) -> i64 {
    hash(keys, id.as_bytes())
}

fn hasher(keys: &Keys) -> SipHasher13 {
    SipHasher13::new_with_key(&keys.dedup)
}

fn hash(keys: &Keys, bytes: &[u8]) -> i64 {
    let mut hasher = hasher(keys);
    hasher.write(bytes);
    hasher.finish().cast_signed()
}

/// The line of a connection. Two connections in one line would only wait for each other.
pub(crate) fn line(connection: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(connection.as_bytes()).into();
    digest.iter().take(8).fold(0, |line, byte| (line << 8) | i64::from(*byte))
}

/// The id under which an entry is delivered. The first entry of an event id keeps that id, with `~` written `~t` and `.`
/// written `~p`. Another entry of the same id adds `~` and the hash of its content. A hash has no `t` and no `p`, so no two
/// entries of one store share a delivery id, whatever ids the vendor gives.
pub(crate) fn delivery_id(event_id: &str, content: ContentKey, is_first: bool) -> DeliveryId {
    let mut id = String::with_capacity(event_id.len() + 17);
    for c in event_id.chars() {
        match c {
            '~' => id.push_str("~t"),
            '.' => id.push_str("~p"),
            _ => id.push(c),
        }
    }
    DeliveryId::new(if is_first { id } else { format!("{id}~{:016x}", content.body) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, delivery_ids::event_id_of};
    use proptest::prelude::*;

    fn keys(byte: u8) -> Keys {
        Keys { identity: Identity([0; 16]), dedup: [byte; 16], fingerprints: [0; 32] }
    }

    #[test]
    fn white_space_between_tokens_is_no_content_and_white_space_in_texts_is() {
        let key = |body: &str| ContentKey::new(&keys(1), "e1", body.as_bytes());
        assert_eq!(key(r#"{"a":"b c","d":1}"#), key("{ \"a\" : \"b c\",\r\n\t\"d\":1}\n"));
        assert_ne!(key(r#"{"a":"b c","d":1}"#), key(r#"{"a":"b  c","d":1}"#));
        assert_ne!(key(r#"{"d":1.0}"#), key(r#"{"d":1.00}"#), "digits are content");
        assert_ne!(key("{}"), ContentKey::new(&keys(2), "e1", b"{}"), "the store's own key counts");
    }

    /// They are stored: other values would make every stored event a new one, and mix up the lines of old and new events.
    #[test]
    fn keys_and_lines_stay_what_they_are() {
        assert_eq!(id_key(&keys(1), "e1"), 6_126_465_401_997_079_124, "SipHash-1-3 of the id");
        let key = ContentKey::new(&keys(1), "42", b" e1\n");
        assert_eq!((key.id, key.body), (id_key(&keys(1), "42"), id_key(&keys(1), "e1")));
        assert_ne!(key.of_bytes(&keys(1), b" e1\n").body, key.body, "here white space counts");
        assert_eq!(line("42"), 8_306_709_966_045_482_637, "the first 8 bytes of the SHA-256");
        assert!(line("2") < 0, "the highest bit is the sign");
    }

    proptest! {
        #[test]
        fn delivery_ids_are_distinct_and_tell_their_event(
            ids in prop::collection::btree_set("[a-f~.tp0-9]{1,20}", 1..8),
            bodies in prop::collection::btree_set(any::<i64>(), 1..4),
        ) {
            let mut seen = std::collections::BTreeSet::new();
            for id in &ids {
                for (number, body) in bodies.iter().enumerate() {
                    let made = delivery_id(id, ContentKey { id: 0, body: *body }, number == 0);
                    prop_assert!(!made.as_str().contains('.'));
                    prop_assert_eq!(event_id_of(made.as_str()), Some(id.clone()));
                    prop_assert!(seen.insert(made.clone()), "{} comes twice", made);
                }
            }
        }
    }

    #[test]
    fn delivery_ids_look_like_this() {
        let content = ContentKey { id: 0, body: 0x0123_4567_89ab_cdef };
        assert_eq!(delivery_id("42", content, true).as_str(), "42");
        assert_eq!(delivery_id("a.b~c", content, true).as_str(), "a~pb~tc");
        assert_eq!(delivery_id("42", content, false).as_str(), "42~0123456789abcdef");
    }
}
