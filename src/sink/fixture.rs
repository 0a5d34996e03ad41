//! What the tests of sinks and of the admin listener share: deliveries, and an inbox that only holds pages and figures.

use super::{Attributes, Completion, Content, Delivery};
use crate::{
    clock::Timestamp,
    inbox::{
        Accepted, Batch, Claimed, EntryView, Error, Filter, Inbox, Lease, NewEntry, Outcome, Page, Reading, ReadingId,
    },
    inbox::{Seq, Stage, Stats},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

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
    let shelf = Shelf { pages: list, ..Shelf::default() };
    let content = Content::completed(Arc::new(shelf), ReadingId(1), before.into(), after.into()).await.unwrap();
    (Delivery { attributes: attributes(id), content }, json)
}

/// A delivery whose page `broken` (from 0) cannot be read.
pub(crate) async fn unreadable(id: &str, pages: usize, broken: usize) -> Delivery {
    let page = Bytes::from(format!("{{\"id\":\"{}\"}}", "x".repeat(60_000)));
    let shelf = Shelf { pages: vec![page; pages], broken: Some(broken), ..Shelf::default() };
    let content = Content::completed(Arc::new(shelf), ReadingId(1), "[".into(), "]".into()).await.unwrap();
    Delivery { attributes: attributes(id), content }
}

/// An inbox that holds pages and figures, and closes everything else.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) pages: Vec<Bytes>,
    pub(crate) broken: Option<usize>,
    pub(crate) stats: Mutex<Stats>,
    pub(crate) stats_hang: bool,
    pub(crate) full: Mutex<bool>,
}

#[async_trait]
impl Inbox for Shelf {
    async fn accept(&self, _: NewEntry) -> Result<Accepted, Error> {
        Err(Error::Closed)
    }
    async fn claim(&self, _: Stage, _: usize, _: Duration) -> Result<Claimed, Error> {
        Err(Error::Closed)
    }
    async fn wake(&self, _: Stage) {}
    async fn renew(&self, _: &Lease, _: Duration) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn settle(&self, _: &Lease, _: Outcome) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn body(&self, _: Seq) -> Result<Option<Bytes>, Error> {
        Err(Error::Closed)
    }
    async fn reading(&self, _: &Lease, _: Duration) -> Result<Reading, Error> {
        Err(Error::Closed)
    }
    async fn keep_page(&self, _: ReadingId, _: Page) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn pages(&self, _: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        Ok((1..).zip(&self.pages).map(|(number, page)| (number, page.len() as u64)).collect())
    }
    async fn page(&self, _: ReadingId, number: u32) -> Result<Bytes, Error> {
        let index = number as usize - 1;
        if self.broken == Some(index) { Err(Error::Closed) } else { Ok(self.pages[index].clone()) }
    }
    async fn stats(&self) -> Result<Stats, Error> {
        if self.stats_hang {
            std::future::pending::<()>().await;
        }
        Ok(self.stats.lock().unwrap().clone())
    }
    fn sink(&self, _: &str) -> Option<Stage> {
        None
    }
    fn ready(&self) -> Result<(), Error> {
        if *self.full.lock().unwrap() { Err(Error::Full(None)) } else { Ok(()) }
    }
    async fn list(&self, _: &Filter, _: usize) -> Result<Vec<EntryView>, Error> {
        Err(Error::Closed)
    }
    async fn replay(&self, _: &Filter, _: usize) -> Result<Batch, Error> {
        Err(Error::Closed)
    }
    async fn park(&self, _: &Filter, _: usize, _: &str) -> Result<Batch, Error> {
        Err(Error::Closed)
    }
    async fn purge(&self, _: &Filter, _: usize) -> Result<Batch, Error> {
        Err(Error::Closed)
    }
    async fn expire(&self, _: Timestamp, _: usize) -> Result<u64, Error> {
        Err(Error::Closed)
    }
    async fn close(&self) {}
}
