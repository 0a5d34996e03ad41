//! What the tests of all sinks share: deliveries of every form.

use crate::{
    attributes::{Attributes, Completion},
    body::{Body, BodyError, Source},
    sink::Delivery,
};
use base::{clock::Timestamp, names::DeliveryId};
use bytes::Bytes;
use event::{ChannelDefinitionId, ConnectionId, UserId};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;

/// The error of a source that cannot be read any further.
#[derive(Debug, thiserror::Error)]
#[error("the page is torn")]
pub(crate) struct Torn;

/// A source with its pieces in memory; after the last one it ends, or fails.
struct Memory {
    pieces: Vec<Bytes>,
    is_torn: bool,
}

impl Source for Memory {
    fn open(self: Arc<Self>) -> BoxStream<'static, Result<Bytes, BodyError>> {
        let end = self.is_torn.then(|| Err(BodyError::Source(Torn.into())));
        stream::iter(self.pieces.clone()).map(Ok).chain(stream::iter(end)).boxed()
    }
}

fn delivery(id: &str, body: Body) -> Delivery {
    Delivery { attributes: attributes(id), body, as_of: Timestamp::from_millis(1_764_000_000_000), trace: None }
}

fn streamed(id: &str, length: usize, pieces: Vec<Bytes>, is_torn: bool) -> Delivery {
    delivery(id, Body::streamed(length as u64, Arc::new(Memory { pieces, is_torn })))
}

/// Attributes of a delivery with this id.
pub(crate) fn attributes(id: &str) -> Attributes {
    Attributes {
        specversion: "1.0",
        id: DeliveryId::new(id),
        source: "https://api.oxlin.io/v2.1".to_owned(),
        cloud_type: "com.linxo.connections.updated".to_owned(),
        subject: ConnectionId::new("123"),
        time: Some("2017-11-06T08:04:08Z".to_owned()),
        datacontenttype: "application/json",
        linxouser: Some(UserId::new("321")),
        linxochannel: Some(ChannelDefinitionId::new("24601")),
        linxomode: None,
        linxocompletion: Completion::Event,
        linxoaccounts: 2,
        linxomismatch: false,
        linxostale: false,
        linxomerged: Vec::new(),
    }
}

/// A delivery of an event that came whole.
pub(crate) fn whole(id: &str, body: &'static [u8]) -> Delivery {
    delivery(id, Body::whole(body))
}

/// A delivery in `pages` pieces of `accounts` accounts each, and its whole JSON.
pub(crate) fn paged(id: &str, pages: usize, accounts: usize) -> (Delivery, Vec<u8>) {
    let page = |page: usize| {
        let one = |account: usize| format!("{{\"id\": \"{page}-{account}\", \"balance\": 10.50}}");
        (0..accounts).map(one).collect::<Vec<_>>().join(",")
    };
    let mut pieces = vec![Bytes::from_static(b"{ \"resource\": {\"accounts\" : [")];
    for number in 0..pages {
        let comma = if number == 0 { "" } else { "," };
        pieces.push(format!("{comma}{}", page(number)).into());
    }
    pieces.push(Bytes::from_static(b"] } }"));
    let json = pieces.concat();
    (streamed(id, json.len(), pieces, false), json)
}

/// A delivery of `pages` pieces of 60 KB, of which the piece `broken` (from 0) cannot be read.
pub(crate) fn unreadable(id: &str, pages: usize, broken: usize) -> Delivery {
    let page = Bytes::from(format!("{{\"id\":\"{}\"}}", "x".repeat(60_000)));
    streamed(id, pages * page.len(), vec![page; broken], true)
}

/// A delivery whose body is by so many bytes longer than announced.
pub(crate) fn misjudged(id: &str, by: isize) -> Delivery {
    let (_, json) = paged(id, 2, 3);
    let announced = json.len().checked_add_signed(-by).unwrap();
    let middle = json.len() / 2;
    let pieces = vec![Bytes::copy_from_slice(&json[..middle]), Bytes::copy_from_slice(&json[middle..])];
    streamed(id, announced, pieces, false)
}
