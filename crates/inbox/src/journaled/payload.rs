//! What the journal holds of an event: everything that the fold needs.
//!
//! ```text
//! version u8 | flags u8 | received i64 | id key i64 | body key i64 | sender u32 + text | trace u32 + text | body
//! ```
//!
//! Numbers are little endian. Of the event itself the body is kept alone, and read again by the fold.

use crate::{
    Keys, NewEntry, TraceParent,
    fold::{ContentKey, Record},
};
use base::clock::Timestamp;
use bytes::Bytes;
use event::{Drift, Event};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// The event is only a hint.
const CONFIRM: u8 = 1;
/// The request said that its body is something else than JSON, and nothing else is odd about the event.
const ODD_TYPE: u8 = 2;
/// The key of its content is not known.
const NO_KEY: u8 = 4;

/// Why a payload is none that can be folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a record of the journal has format {0}, which this version of linxo-webhook does not know")]
    Version(u8),
    #[error("a record of the journal is not what was written")]
    Cut,
    #[error("an event in the journal cannot be read any more")]
    Event(#[source] event::Malformed),
}

/// Without the key of its content, where the store's keys are not known, the fold computes that.
pub(super) fn encode(entry: &NewEntry, content: Option<ContentKey>) -> Bytes {
    let texts = [entry.sender.as_deref(), entry.trace.as_ref().map(TraceParent::as_str)];
    let body = &entry.body;
    let long: usize = texts.iter().map(|text| 4 + text.map_or(0, str::len)).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(26 + long + body.len()));
    let is_odd = entry.event.drift == Some(Drift::ContentType);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(entry.confirm, CONFIRM) | flag(is_odd, ODD_TYPE) | flag(content.is_none(), NO_KEY);
    bytes.extend_from_slice(&[VERSION, flags]);
    let content = content.unwrap_or(ContentKey { id: 0, body: 0 });
    for number in [entry.received.as_millis(), content.id, content.body] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for text in texts {
        // Nothing is written as no text; no sender and no trace is an empty one.
        let text = text.unwrap_or_default();
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(body);
    Bytes::from_owner(bytes)
}

pub(super) fn decode(payload: &Bytes, keys: &Keys) -> Result<Record, Unreadable> {
    let mut rest = payload.as_ref();
    let version = take(&mut rest, 1)?.first().copied().unwrap_or_default();
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let flags = take(&mut rest, 1)?.first().copied().unwrap_or_default();
    let received = Timestamp::from_millis(number(&mut rest)?);
    let content = ContentKey { id: number(&mut rest)?, body: number(&mut rest)? };
    let sender = text(&mut rest)?;
    let trace = text(&mut rest)?.and_then(|text| TraceParent::parse(&text));
    let body = payload.slice_ref(rest);
    let mut event = Event::parse(&body).map_err(Unreadable::Event)?;
    if flags & ODD_TYPE != 0 {
        event.drift.get_or_insert(Drift::ContentType);
    }
    let confirm = flags & CONFIRM != 0;
    let entry = NewEntry { event, body, received, confirm, sender, trace };
    Ok(if flags & NO_KEY == 0 { Record::with_content(entry, content) } else { Record::new(entry, keys) })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unreadable> {
    let (taken, behind) = rest.split_at_checked(length).ok_or(Unreadable::Cut)?;
    *rest = behind;
    Ok(taken)
}

fn number(rest: &mut &[u8]) -> Result<i64, Unreadable> {
    let bytes = take(rest, 8)?.try_into().map_err(|_short| Unreadable::Cut)?;
    Ok(i64::from_le_bytes(bytes))
}

fn text(rest: &mut &[u8]) -> Result<Option<String>, Unreadable> {
    let length = take(rest, 4)?.try_into().map(u32::from_le_bytes).map_err(|_short| Unreadable::Cut)?;
    let text = take(rest, length as usize)?;
    let text = std::str::from_utf8(text).map_err(|_invalid| Unreadable::Cut)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    const KEYS: Keys = Keys { identity: Identity([0; 16]), dedup: [1; 16], fingerprints: [0; 32] };
    const BODY: &str = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"7"}}"#;
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn entry(sender: Option<&str>, trace: Option<&str>, drift: Option<Drift>, confirm: bool) -> NewEntry {
        let mut event = Event::parse(BODY.as_bytes()).unwrap();
        event.drift = drift;
        let (sender, trace) = (sender.map(str::to_owned), trace.and_then(TraceParent::parse));
        NewEntry { event, body: BODY.into(), received: Timestamp::from_millis(5), confirm, sender, trace }
    }

    #[test]
    fn what_the_fold_needs_is_read_back() {
        let content = ContentKey { id: -1, body: 2 };
        for entry in [
            entry(None, None, None, false),
            entry(Some(r#"{"peer":"x"}"#), Some(TRACE), Some(Drift::ContentType), true),
        ] {
            let record = decode(&encode(&entry, Some(content)), &KEYS).unwrap();
            assert_eq!(format!("{:?}", record.entry), format!("{entry:?}"));
            assert_eq!(record.content, content);
            let record = decode(&encode(&entry, None), &KEYS).unwrap();
            assert_eq!(record.content, ContentKey::new(&KEYS, "e1", BODY.as_bytes()));
        }
    }

    #[test]
    fn what_is_cut_or_newer_is_an_error() {
        let whole = encode(&entry(Some("{}"), None, None, false), Some(ContentKey { id: 1, body: 2 }));
        for length in 0..whole.len() {
            assert!(decode(&whole.slice(..length), &KEYS).is_err(), "{length}");
        }
        let mut newer = whole.to_vec();
        newer[0] = 9;
        assert!(matches!(decode(&newer.into(), &KEYS), Err(Unreadable::Version(9))));
    }
}
