//! A delivery as `CloudEvents` 1.0: in structured form (one JSON line) and in binary form (attributes as headers).
//!
//! The structured form of a long body is made in cuts ([`Cuts`]), so that an event with 100,000 accounts never stands in
//! memory at once.

use crate::{
    attributes::Attributes,
    body::{BodyError, Pieces},
    sink::{Delivery, Error, Failure},
};
use bytes::Bytes;
use event::{ChannelDefinitionId, Compact, UserId};
use futures_util::StreamExt as _;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use std::borrow::Cow;

/// What a header's value may not hold as it is (`CloudEvents` HTTP binding, section 3.1.3.2). All that is not ASCII is
/// encoded too.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// Largest cut of a line that is made at once, before white space is removed. Attributes come on top of the first one.
const CUT: usize = 64 * 1024;
/// Ends the document and the line.
const CLOSING: &[u8] = b"}\n";

/// Names (`ce-` included) and encoded values of the binary form. `datacontenttype` is not among them: it is the
/// `Content-Type` header.
pub(crate) fn headers(attributes: &Attributes) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
    let Attributes { linxouser, linxochannel, linxomode, .. } = attributes;
    let accounts = Cow::Owned(attributes.linxoaccounts.to_string());
    let merged = attributes.merged().map(|ids| ("ce-linxomerged", Cow::Owned(header_value(&ids).into_owned())));
    [
        ("ce-specversion", Some(attributes.specversion)),
        ("ce-id", Some(attributes.id.as_str())),
        ("ce-source", Some(attributes.source.as_str())),
        ("ce-type", Some(attributes.cloud_type.as_str())),
        ("ce-subject", Some(attributes.subject.as_str())),
        ("ce-time", attributes.time.as_deref()),
        ("ce-linxouser", linxouser.as_ref().map(UserId::as_str)),
        ("ce-linxochannel", linxochannel.as_ref().map(ChannelDefinitionId::as_str)),
        ("ce-linxomode", linxomode.as_deref()),
        ("ce-linxocompletion", Some(attributes.linxocompletion.as_str())),
        ("ce-linxomismatch", attributes.linxomismatch.then_some("true")),
        ("ce-linxostale", attributes.linxostale.then_some("true")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, header_value(value?))))
    .chain([("ce-linxoaccounts", accounts)])
    .chain(merged)
}

/// Encodes a text for a header: what may not stand there becomes `%XX` of its UTF-8.
pub(crate) fn header_value(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, ENCODED).into()
}

/// Appends the structured form of a delivery as one line of NDJSON: attributes, then `data`, then a line feed. After an
/// error a part of the line may stand in `out`.
pub(crate) async fn append_line(delivery: &Delivery, out: &mut Vec<u8>) -> Result<(), Error> {
    append_opening(delivery, out)?;
    let mut compact = Compact::default();
    let mut pieces = delivery.body.open();
    while let Some(piece) = pieces.next().await {
        compact.push(&piece?, out);
    }
    out.extend_from_slice(CLOSING);
    Ok(())
}

/// The document's members up to its data.
#[derive(Serialize)]
struct Opening<'a> {
    #[serde(flatten)]
    attributes: &'a Attributes,
    /// The extension "Distributed Tracing" of `CloudEvents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<&'a str>,
}

/// The structured form of a delivery as a document of its own.
#[cfg(feature = "broker")]
pub(crate) async fn document(delivery: &Delivery) -> Result<Vec<u8>, Error> {
    let body = usize::try_from(delivery.body.length()).unwrap_or_default();
    let mut document = Vec::with_capacity(body.saturating_add(1024));
    append_line(delivery, &mut document).await?;
    // The line feed.
    document.pop();
    Ok(document)
}

/// The document up to its data.
fn append_opening(delivery: &Delivery, out: &mut Vec<u8>) -> Result<(), Failure> {
    let trace = delivery.trace.as_ref();
    let written = match trace {
        // Without the detour by which members of two kinds become one object.
        None => serde_json::to_writer(&mut *out, &delivery.attributes),
        Some(trace) => {
            let (traceparent, tracestate) = (Some(trace.traceparent()), trace.tracestate());
            serde_json::to_writer(&mut *out, &Opening { attributes: &delivery.attributes, traceparent, tracestate })
        }
    };
    written.map_err(|error| {
        Failure::transient(format!("the attributes of the delivery could not be written as JSON: {error}"))
    })?;
    // The attributes stay open for one more member.
    out.pop();
    out.extend_from_slice(b",\"data\":");
    Ok(())
}

/// The line of [`append_line`] in cuts of bounded size.
pub(crate) struct Cuts {
    pieces: Pieces,
    compact: Compact,
    /// Not yet written rest of the present piece.
    rest: Bytes,
    /// What the next cut begins with.
    out: Vec<u8>,
    is_finished: bool,
}

impl Cuts {
    /// Begins the line of a delivery.
    pub(crate) fn new(delivery: &Delivery) -> Result<Self, Failure> {
        let mut out = Vec::new();
        append_opening(delivery, &mut out)?;
        let pieces = delivery.body.open();
        Ok(Self { pieces, compact: Compact::default(), rest: Bytes::new(), out, is_finished: false })
    }

    /// The next cut; `None` after the line feed.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.is_finished {
            return Ok(None);
        }
        let mut out = std::mem::take(&mut self.out);
        let mut room = CUT;
        while room > 0 {
            if self.rest.is_empty() {
                let Some(piece) = self.pieces.next().await else {
                    out.extend_from_slice(CLOSING);
                    self.is_finished = true;
                    break;
                };
                self.rest = piece?;
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
    use crate::fixture;
    use base::names::DeliveryId;
    use base::trace::TraceParent;

    #[test]
    fn encodes_headers_as_the_http_binding_says() {
        assert_eq!(header_value("abc-123"), "abc-123");
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("a\"b%c\r\n\u{7f}"), "a%22b%25c%0D%0A%7F");
    }

    #[test]
    fn leaves_absent_attributes_out_of_the_headers() {
        let mut attributes = fixture::attributes("e 1");
        let all: Vec<_> = headers(&attributes).collect();
        assert!(all.contains(&("ce-id", "e%201".into())));
        assert!(all.contains(&("ce-linxoaccounts", "2".into())));
        assert!(all.contains(&("ce-linxocompletion", "event".into())));
        assert!(all.contains(&("ce-linxouser", "321".into())));
        assert!(!all.iter().any(|(name, _)| matches!(*name, "ce-linxomismatch" | "ce-linxostale" | "ce-linxomode")));
        attributes.linxomismatch = true;
        attributes.linxostale = true;
        attributes.id = DeliveryId::new("e2");
        let all: Vec<_> = headers(&attributes).collect();
        assert!(all.contains(&("ce-linxomismatch", "true".into())));
        assert!(all.contains(&("ce-linxostale", "true".into())));
        assert!(all.contains(&("ce-id", "e2".into())));
        assert!(!all.iter().any(|(name, _)| *name == "ce-linxomerged"));
        attributes.linxomerged = ["e 1", "e2"].map(DeliveryId::new).to_vec();
        let merged = headers(&attributes).find(|(name, _)| *name == "ce-linxomerged");
        assert_eq!(merged, Some(("ce-linxomerged", "e%25201,e2".into())));
    }

    #[tokio::test]
    async fn writes_one_line_and_keeps_digits_order_and_strings() {
        let delivery = fixture::whole("e1", b"{ \"b\" : 1234.50,\n\t\"a\" : \"x \\\" \\\\ y\" }\n");
        let mut line = Vec::new();
        append_line(&delivery, &mut line).await.unwrap();
        let line = String::from_utf8(line).unwrap();
        insta::assert_snapshot!(line, @r#"{"specversion":"1.0","id":"e1","source":"https://api.oxlin.io/v2.1","type":"com.linxo.connections.updated","subject":"123","time":"2017-11-06T08:04:08Z","datacontenttype":"application/json","linxouser":"321","linxochannel":"24601","linxocompletion":"event","linxoaccounts":2,"data":{"b":1234.50,"a":"x \" \\ y"}}"#);
        assert!(line.ends_with("}\n"));
    }

    #[tokio::test]
    async fn the_place_in_a_trace_is_an_extension() {
        let place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = TraceParent::of_caller(place, Some("a=b"));
        let delivery = Delivery { trace, ..fixture::whole("e1", b"{}") };
        let mut line = Vec::new();
        append_line(&delivery, &mut line).await.unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&line["traceparent"], &line["tracestate"], &line["id"]),
            (&place.into(), &"a=b".into(), &"e1".into())
        );
        assert_eq!(line["data"], serde_json::json!({}));
    }

    #[tokio::test]
    async fn cuts_large_lines_into_bounded_pieces_that_join_to_the_same_line() {
        let (delivery, expected) = fixture::paged("e1", 40, 100);
        let mut cuts = Cuts::new(&delivery).unwrap();
        let mut joined = Vec::new();
        while let Some(cut) = cuts.next().await.unwrap() {
            assert!(cut.len() <= CUT + 1024, "a cut of {} bytes", cut.len());
            joined.extend_from_slice(&cut);
        }
        assert!(cuts.next().await.unwrap().is_none());
        let mut line = Vec::new();
        append_line(&delivery, &mut line).await.unwrap();
        assert_eq!(joined, line);
        let read: serde_json::Value = serde_json::from_slice(&joined).unwrap();
        let wanted: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        assert_eq!(read["data"], wanted);
        assert_eq!(joined.split(|byte| *byte == b'\n').count(), 2);
    }
}
