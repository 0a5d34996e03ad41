//! What the tests of sinks and of the admin listener share: deliveries.

use super::{Attributes, Completion, Content, Delivery};
use crate::inbox::{ReadingId, double::Double};
use bytes::Bytes;
use std::sync::Arc;

/// Attributes of a delivery with this id.
pub(crate) fn attributes(id: &str) -> Attributes {
    Attributes {
        specversion: "1.0",
        id: id.to_owned(),
        source: "https://api.oxlin.io/v2.1".to_owned(),
        cloud_type: "com.linxo.connections.updated".to_owned(),
        subject: "123".to_owned(),
        time: Some("2017-11-06T08:04:08Z".to_owned()),
        datacontenttype: "application/json",
        linxouser: Some("321".to_owned()),
        linxochannel: Some("24601".to_owned()),
        linxomode: None,
        linxocompletion: Completion::Event,
        linxoaccounts: 2,
        linxomismatch: false,
    }
}

/// A delivery of an event that came whole.
pub(crate) fn whole(id: &str, body: &'static [u8]) -> Delivery {
    Delivery { attributes: attributes(id), content: Content::whole(Bytes::from_static(body)) }
}

/// A delivery with `pages` pages of `accounts` accounts each, and its whole JSON.
pub(crate) async fn paged(id: &str, pages: usize, accounts: usize) -> (Delivery, Vec<u8>) {
    let (before, after) = ("{ \"resource\": {\"accounts\" : [", "] } }");
    let list: Vec<Bytes> = (0..pages)
        .map(|page| {
            let one = |account: usize| format!("{{\"id\": \"{page}-{account}\", \"balance\": 10.50}}");
            Bytes::from((0..accounts).map(one).collect::<Vec<_>>().join(","))
        })
        .collect();
    let mut json = before.as_bytes().to_vec();
    json.extend_from_slice(&list.join(&b','));
    json.extend_from_slice(after.as_bytes());
    let double = Double { pages: list, ..Double::default() };
    let content = Content::completed(Arc::new(double), ReadingId(1), before.into(), after.into()).await.unwrap();
    (Delivery { attributes: attributes(id), content }, json)
}

/// A delivery whose page `broken` (from 0) cannot be read.
pub(crate) async fn unreadable(id: &str, pages: usize, broken: usize) -> Delivery {
    let page = Bytes::from(format!("{{\"id\":\"{}\"}}", "x".repeat(60_000)));
    let double = Double { pages: vec![page; pages], broken: Some(broken), ..Double::default() };
    let content = Content::completed(Arc::new(double), ReadingId(1), "[".into(), "]".into()).await.unwrap();
    Delivery { attributes: attributes(id), content }
}
