//! A delivery as `CloudEvents` 1.0: context attributes, in structured form (one JSON line) and in binary form (headers).
//!
//! The structured form is written piece by piece ([`Line`]), so that an event with 100,000 accounts never stands in
//! memory at once. Extension names follow the specification: lower-case letters and digits only.

use super::{Content, Delivery};
use crate::inbox;
use bytes::Bytes;
use event::Compact;
use serde::Serialize;
use std::{borrow::Cow, fmt::Write};

/// Context attributes, in the order in which they are written. Absent ones are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// Distinct for every entry, the same on every retry and replay.
    pub id: String,
    /// Base of the vendor's API.
    pub source: String,
    /// `com.linxo.connections.updated`
    #[serde(rename = "type")]
    pub cloud_type: String,
    /// Connection id.
    pub subject: String,
    /// RFC 3339, from `creation_date`; when it was accepted, where the event is only a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// User id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxouser: Option<String>,
    /// Channel definition id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxochannel: Option<String>,
    /// Mode of that channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxomode: Option<String>,
    /// Where the accounts come from.
    pub linxocompletion: Completion,
    /// Number of accounts delivered.
    pub linxoaccounts: u64,
    /// Present and `true` only where that number differs from `account_count`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub linxomismatch: bool,
}

/// Where the accounts of a delivery come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// The event itself.
    Event,
    /// The vendor's API.
    Api,
    /// Nowhere: the vendor's API does not know the connection any more.
    Gone,
}

impl Completion {
    /// The word for it in attributes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Api => "api",
            Self::Gone => "gone",
        }
    }
}

impl Attributes {
    /// Names (`ce-` included) and encoded values of the binary form. `datacontenttype` is not among them: it is the
    /// `Content-Type` header.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let accounts = self.linxoaccounts.to_string();
        let all = [
            ("ce-specversion", Some(self.specversion)),
            ("ce-id", Some(&*self.id)),
            ("ce-source", Some(&*self.source)),
            ("ce-type", Some(&*self.cloud_type)),
            ("ce-subject", Some(&*self.subject)),
            ("ce-time", self.time.as_deref()),
            ("ce-linxouser", self.linxouser.as_deref()),
            ("ce-linxochannel", self.linxochannel.as_deref()),
            ("ce-linxomode", self.linxomode.as_deref()),
            ("ce-linxocompletion", Some(self.linxocompletion.as_str())),
            ("ce-linxoaccounts", Some(&*accounts)),
            ("ce-linxomismatch", self.linxomismatch.then_some("true")),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, header_value(value?).into_owned()))).collect()
    }
}

/// Encodes text for a header as the `CloudEvents` HTTP binding (section 3.1.3.2) says: space, `"`, `%` and all that is
/// not printable ASCII as `%XX` of its UTF-8.
pub(super) fn header_value(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, 0x21..=0x7E) && !matches!(byte, b'"' | b'%');
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    Cow::Owned(encoded)
}

/// Largest cut of a line that is made at once, before white space is removed. Attributes come on top of the first one.
const CUT: usize = 64 * 1024;

/// The structured form as one line of NDJSON, in cuts of bounded size: attributes, then `data`, then a line feed.
pub(super) struct Line<'a> {
    content: &'a Content,
    compact: Compact,
    /// Not yet written rest of the present piece.
    rest: Bytes,
    next_piece: usize,
    /// The opening of the document, until it is written.
    opening: Option<Vec<u8>>,
    finished: bool,
}

impl<'a> Line<'a> {
    /// Begins the line of a delivery.
    pub(super) fn new(delivery: &'a Delivery) -> Result<Self, serde_json::Error> {
        let mut opening = serde_json::to_vec(&delivery.attributes)?;
        // The attributes stay open for one more member.
        opening.pop();
        opening.extend_from_slice(b",\"data\":");
        Ok(Self {
            content: &delivery.content,
            compact: Compact::default(),
            rest: Bytes::new(),
            next_piece: 0,
            opening: Some(opening),
            finished: false,
        })
    }

    /// The next cut; `None` after the line feed.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, inbox::Error> {
        if self.finished {
            return Ok(None);
        }
        let mut out = self.opening.take().unwrap_or_default();
        let mut room = CUT;
        while room > 0 {
            if self.rest.is_empty() {
                let Some(piece) = self.content.piece(self.next_piece).await? else {
                    out.extend_from_slice(b"}\n");
                    self.finished = true;
                    break;
                };
                self.rest = piece;
                self.next_piece += 1;
            }
            let cut = self.rest.split_to(room.min(self.rest.len()));
            room -= cut.len();
            self.compact.push(&cut, &mut out);
        }
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixture;

    #[test]
    fn encodes_headers_as_the_http_binding_says() {
        assert_eq!(header_value("abc-123"), "abc-123");
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("a\"b%c\r\n\u{7f}"), "a%22b%25c%0D%0A%7F");
    }

    #[test]
    fn leaves_absent_attributes_out_of_the_headers() {
        let headers = fixture::attributes("e 1").headers();
        assert!(headers.contains(&("ce-id", "e%201".to_owned())));
        assert!(headers.contains(&("ce-linxoaccounts", "2".to_owned())));
        assert!(headers.contains(&("ce-linxocompletion", "event".to_owned())));
        assert!(!headers.iter().any(|(name, _)| matches!(*name, "ce-linxomismatch" | "ce-linxomode")));
        let mut mismatch = fixture::attributes("e1");
        mismatch.linxomismatch = true;
        assert!(mismatch.headers().contains(&("ce-linxomismatch", "true".to_owned())));
    }

    #[tokio::test]
    async fn writes_one_line_and_keeps_digits_order_and_strings() {
        let delivery = fixture::whole("e1", b"{ \"b\" : 1234.50,\n\t\"a\" : \"x \\\" \\\\ y\" }\n");
        let line = whole_line(&delivery).await;
        insta::assert_snapshot!(line, @r#"{"specversion":"1.0","id":"e1","source":"https://api.oxlin.io/v2.1","type":"com.linxo.connections.updated","subject":"123","time":"2017-11-06T08:04:08Z","datacontenttype":"application/json","linxouser":"321","linxochannel":"24601","linxocompletion":"event","linxoaccounts":2,"data":{"b":1234.50,"a":"x \" \\ y"}}"#);
        assert!(line.ends_with("}\n"));
    }

    #[tokio::test]
    async fn cuts_large_lines_into_bounded_pieces_that_join_to_the_same_text() {
        let (delivery, expected) = fixture::paged("e1", 40, 100).await;
        let mut line = Line::new(&delivery).unwrap();
        let mut joined = Vec::new();
        while let Some(cut) = line.next().await.unwrap() {
            assert!(cut.len() <= CUT + 1024, "a cut of {} bytes", cut.len());
            joined.extend_from_slice(&cut);
        }
        assert!(line.next().await.unwrap().is_none());
        let read: serde_json::Value = serde_json::from_slice(&joined).unwrap();
        let wanted: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        assert_eq!(read["data"], wanted);
        assert_eq!(joined.split(|byte| *byte == b'\n').count(), 2);
    }

    async fn whole_line(delivery: &Delivery) -> String {
        let mut line = Line::new(delivery).unwrap();
        let mut joined = Vec::new();
        while let Some(cut) = line.next().await.unwrap() {
            joined.extend_from_slice(&cut);
        }
        String::from_utf8(joined).unwrap()
    }
}
