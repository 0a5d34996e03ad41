//! An inbox for tests of what stands beside it: accepts by script, holds pages and figures, closes everything else.

use super::{
    Accepted, Awaiting, Batch, Claimed, EntryView, Error, Filter, Inbox, Lease, NewEntry, Outcome, Page, Reading,
    ReadingId, Refused, RefusedView, Seq, Stage, Stats,
};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Nothing in these tests takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(20);

/// What the inbox does next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Script {
    #[default]
    Store,
    Conflict,
    Duplicate,
    Full,
    Backlog,
    Fail,
    Closed,
    Panic,
    Slow(Duration),
}

#[derive(Debug, Default)]
pub(crate) struct Double {
    /// Accounts' JSON by page, from 1.
    pub(crate) pages: Vec<Bytes>,
    /// Index of a page that cannot be read.
    pub(crate) broken: Option<usize>,
    pub(crate) stats: Mutex<Stats>,
    pub(crate) stats_hang: bool,
    pub(crate) full: Mutex<bool>,
    pub(crate) script: Mutex<Script>,
    /// Events that were handed over, whatever became of them.
    pub(crate) begun: AtomicUsize,
    pub(crate) entries: Mutex<Vec<NewEntry>>,
    pub(crate) refused: Mutex<Vec<Refused>>,
}

impl Double {
    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Relaxed)
    }

    pub(crate) fn stored(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    pub(crate) async fn wait_for(&self, stored: usize) {
        let reached = async {
            while self.stored() < stored {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, reached).await.expect("the entries were stored");
    }
}

#[async_trait]
impl Inbox for Double {
    async fn accept(&self, entry: NewEntry) -> Result<Accepted, Error> {
        self.begun.fetch_add(1, Relaxed);
        let script = *self.script.lock().unwrap();
        let stored = |conflict| {
            let mut entries = self.entries.lock().unwrap();
            entries.push(entry);
            Ok(Accepted::Stored { seq: Seq(i64::try_from(entries.len()).unwrap()), conflict })
        };
        match script {
            Script::Store => stored(false),
            Script::Conflict => stored(true),
            Script::Slow(by) => {
                tokio::time::sleep(by).await;
                stored(false)
            }
            Script::Duplicate => Ok(Accepted::Duplicate { seq: Seq(1) }),
            Script::Full => Err(Error::Full(None)),
            Script::Backlog => Err(Error::Backlog),
            Script::Fail => Err(Error::Store("the disk is on fire".into())),
            Script::Closed => Err(Error::Closed),
            Script::Panic => panic!("as scripted"),
        }
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
    async fn begin_reading(&self, _: &Lease) -> Result<Reading, Error> {
        Err(Error::Closed)
    }
    async fn keep_page(&self, _: &Lease, _: ReadingId, _: Page) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn replace_accounts(&self, _: &Lease, _: ReadingId, _: u32, _: Bytes) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn awaiting(&self, _: Option<&str>) -> Result<Vec<Awaiting>, Error> {
        Err(Error::Closed)
    }
    async fn keep_connection(&self, _: &Lease, _: ReadingId, _: Bytes) -> Result<(), Error> {
        Err(Error::Closed)
    }
    async fn connection(&self, _: ReadingId) -> Result<Option<Bytes>, Error> {
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
    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        self.refused.lock().unwrap().extend(refused);
        Ok(())
    }
    async fn refused(&self, _: usize) -> Result<Vec<RefusedView>, Error> {
        Err(Error::Closed)
    }
    async fn close(&self) {}
}
