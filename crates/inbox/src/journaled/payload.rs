//! What the journal holds of an event: everything that the fold needs.
//!
//! ```text
//! version u8 | length of the head u32, little endian | head | body
//! ```
//!
//! The head has what the door read of the event, so that the fold need not read the body again. It is encoded by `postcard`,
//! whose format is stable. It has no names: a member more or less, here or in [`Event`], is another [`VERSION`], which a test
//! beside this holds. The body stands as it came.

use crate::{
    Error, Keys, NewEntry, TraceParent,
    fold::{ContentKey, Record},
};
use base::clock::Timestamp;
use bytes::Bytes;
use event::Event;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use zeroize::Zeroizing;

const VERSION: u8 = 2;
/// Version, and length of the head.
const PREFIX: usize = 5;
/// Room for a head of usual length.
const USUAL: usize = 384;

/// What stands before the body.
#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    /// Milliseconds.
    received: i64,
    /// The event is only a hint.
    confirm: bool,
    /// `None`, where the store's keys were not known: the fold computes it.
    content: Option<ContentKey>,
    sender: Option<Cow<'a, str>>,
    trace: Option<Cow<'a, str>>,
    event: Cow<'a, Event>,
}

/// Why a payload is none that can be folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(
        "a record of the journal has format {0}, which this version of linxo-webhook does not know; start the version that wrote it, and \
         stop it in good order"
    )]
    Version(u8),
    #[error("a record of the journal is not what was written")]
    Cut,
    #[error("the head of a record of the journal is not what was written")]
    Head(#[source] postcard::Error),
}

/// Without the key of its content, where the store's keys are not known, the fold computes that.
///
/// # Errors
/// [`Error::Store`]; no cause of it is known, as a head is encoded into memory.
pub(super) fn encode(entry: &NewEntry, content: Option<ContentKey>) -> Result<Bytes, Error> {
    let head = Head {
        received: entry.received.as_millis(),
        confirm: entry.confirm,
        content,
        sender: entry.sender.as_deref().map(Cow::Borrowed),
        trace: entry.trace.as_ref().map(|trace| Cow::Borrowed(trace.as_str())),
        event: Cow::Borrowed(&entry.event),
    };
    let head = postcard::to_extend(&head, Vec::with_capacity(USUAL)).map_err(|error| Error::Store(Box::new(error)))?;
    let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
    // Of the right size at once: a vector that grows leaves a copy behind that is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PREFIX + head.len() + entry.body.len()));
    bytes.push(VERSION);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&entry.body);
    Ok(Bytes::from_owner(bytes))
}

pub(super) fn decode(payload: &Bytes, keys: &Keys) -> Result<Record, Unreadable> {
    let (prefix, rest) = payload.split_first_chunk::<PREFIX>().ok_or(Unreadable::Cut)?;
    let [version, length @ ..] = *prefix;
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let (head, body) = rest.split_at_checked(u32::from_le_bytes(length) as usize).ok_or(Unreadable::Cut)?;
    let head: Head<'_> = postcard::from_bytes(head).map_err(Unreadable::Head)?;
    let entry = NewEntry {
        event: head.event.into_owned(),
        body: payload.slice_ref(body),
        received: Timestamp::from_millis(head.received),
        confirm: head.confirm,
        sender: head.sender.map(Cow::into_owned),
        trace: head.trace.and_then(|trace| TraceParent::parse(&trace)),
    };
    Ok(match head.content {
        Some(content) => Record::with_content(entry, content),
        None => Record::new(entry, keys),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use event::{ChannelDefinitionId, ConnectionId, Drift, EventId, Shape, UserId};

    const KEYS: Keys = Keys { identity: Identity([0; 16]), dedup: [1; 16], fingerprints: [0; 32] };
    const BODY: &str = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"7"}}"#;
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn entry(sender: Option<&str>, trace: Option<&str>, drift: Option<Drift>, confirm: bool) -> NewEntry {
        let mut event = Event::parse(BODY.as_bytes()).unwrap();
        event.drift = drift;
        let (sender, trace) = (sender.map(str::to_owned), trace.and_then(TraceParent::parse));
        NewEntry { event, body: BODY.into(), received: Timestamp::from_millis(5), confirm, sender, trace }
    }

    /// Every member set.
    fn full() -> NewEntry {
        let event = Event {
            id: EventId::new("e1"),
            event_type: "UPDATED".to_owned(),
            resource_type: "CONNECTIONS".to_owned(),
            connection: ConnectionId::new("7"),
            user: Some(UserId::new("u")),
            channel: Some(ChannelDefinitionId::new("c")),
            mode: Some("EMBEDDED".to_owned()),
            channel_status: Some("SUCCESS".to_owned()),
            status: Some("FAILED".to_owned()),
            provider: Some("p".to_owned()),
            created: Some(-1),
            new_transactions: Some(true),
            account_count: Some(300),
            listed: 0,
            shape: Shape::Truncated { expected: 300 },
            drift: Some(Drift::TooLong { path: "$.x".into() }),
        };
        NewEntry { event, ..entry(Some(r#"{"peer":"x"}"#), Some(TRACE), None, true) }
    }

    #[test]
    fn what_the_fold_needs_is_read_back() {
        let content = ContentKey { id: -1, body: 2 };
        for entry in [entry(None, None, None, false), full()] {
            let record = decode(&encode(&entry, Some(content)).unwrap(), &KEYS).unwrap();
            assert_eq!(format!("{:?}", record.entry), format!("{entry:?}"));
            assert_eq!(record.content, content);
            let record = decode(&encode(&entry, None).unwrap(), &KEYS).unwrap();
            assert_eq!(record.content, ContentKey::new(&KEYS, "e1", BODY.as_bytes()));
        }
    }

    /// A head that is encoded otherwise needs another [`VERSION`]: what an older version left in its journal would be misread.
    #[test]
    fn the_format_is_as_its_version_says() {
        let bytes = encode(&full(), Some(ContentKey { id: -1, body: 2 })).unwrap();
        let head = concat!(
            "029a000000",
            "0a01010104",                   // received, confirm, content
            "010c7b2270656572223a2278227d", // sender
            "013730302d3061663736353139313663643433646438343438656232313163383033313963",
            "2d623761643662373136393230333333312d3031", // trace
            "0265310755504441544544",                   // the event: id, event_type
            "0b434f4e4e454354494f4e530137",             // resource_type, connection
            "010175010163",                             // user, channel
            "0108454d424544444544010753554343455353",   // mode, channel_status
            "01064641494c45440101700101",               // status, provider, created
            "010101ac020001ac02",                       // new_transactions, account_count, listed, shape
            "010203242e78",                             // drift
        );
        assert_eq!(hex(&bytes), format!("{head}{}", hex(BODY.as_bytes())));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn what_is_cut_or_newer_is_an_error() {
        let whole = encode(&entry(Some("{}"), None, None, false), Some(ContentKey { id: 1, body: 2 })).unwrap();
        let body = whole.len() - BODY.len();
        for length in 0..body {
            assert!(decode(&whole.slice(..length), &KEYS).is_err(), "{length}");
        }
        let mut newer = whole.to_vec();
        newer[0] = 9;
        assert!(matches!(decode(&newer.into(), &KEYS), Err(Unreadable::Version(9))));
    }
}
