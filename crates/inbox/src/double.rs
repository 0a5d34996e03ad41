//! An inbox for tests of what stands beside it: takes events by script, shows figures that it is given, and does nothing
//! else.

use crate::{
    Error, Expired, Folded, Intake, NewEntry, Position, ReadingId, Receipt, Refused, Resealed, Seq, Shelf, Stats,
    Upkeep,
};
use async_trait::async_trait;
use base::{clock::Timestamp, sync::lock};
use bytes::Bytes;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// What the inbox does next.
#[derive(Clone, Copy, Debug, Default)]
pub enum Script {
    /// Stores the event.
    #[default]
    Store,
    /// Stores it as another one of the same id.
    Conflict,
    /// Knows it already.
    Duplicate,
    /// Has no room.
    Full,
    /// Holds too much already.
    Backlog,
    /// Fails.
    Fail,
    /// Is closed.
    Closed,
    /// Panics.
    Panic,
    /// Stores it after a while.
    Slow(Duration),
}

/// The inbox.
#[derive(Debug)]
pub struct Double {
    script: Mutex<Script>,
    full: Mutex<bool>,
    /// `None`: never answers.
    stats: Mutex<Option<Stats>>,
    /// Accounts' JSON by page, from 1.
    pages: Vec<Bytes>,
    /// Index of a page that cannot be read.
    broken: Option<usize>,
    entries: Mutex<Vec<NewEntry>>,
    refused: Mutex<Vec<Refused>>,
    /// Events that came so far, stored or not.
    begun: AtomicUsize,
    changed: Notify,
}

impl Default for Double {
    fn default() -> Self {
        Self {
            script: Mutex::default(),
            full: Mutex::default(),
            stats: Mutex::new(Some(Stats::default())),
            pages: Vec::new(),
            broken: None,
            entries: Mutex::default(),
            refused: Mutex::default(),
            begun: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }
}

impl Double {
    /// One that shows these figures; without any it never answers when asked for them.
    #[must_use]
    pub fn with_stats(stats: Option<Stats>) -> Self {
        Self { stats: Mutex::new(stats), ..Self::default() }
    }

    /// One that holds these pages of accounts; the one at the index `broken` cannot be read.
    #[must_use]
    pub fn with_pages(pages: Vec<Bytes>, broken: Option<usize>) -> Self {
        Self { pages, broken, ..Self::default() }
    }

    /// What it does from now on.
    pub fn set(&self, script: Script) {
        *lock(&self.script) = script;
    }

    /// Whether it says that its disk is full.
    pub fn set_full(&self, full: bool) {
        *lock(&self.full) = full;
    }

    /// Other figures.
    pub fn set_stats(&self, stats: Option<Stats>) {
        *lock(&self.stats) = stats;
    }

    /// What was stored.
    #[must_use]
    pub fn entries(&self) -> Vec<NewEntry> {
        lock(&self.entries).clone()
    }

    /// How many events are stored.
    #[must_use]
    pub fn stored(&self) -> usize {
        lock(&self.entries).len()
    }

    /// How many events came so far, stored or not.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// What was refused.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        lock(&self.refused).clone()
    }

    /// Waits until so many events are stored.
    pub async fn wait_for(&self, stored: usize) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.entries).len() >= stored {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Intake for Double {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let script = *lock(&self.script);
        let stored = |conflict| {
            let mut entries = lock(&self.entries);
            entries.push(entry);
            let number = entries.len() as u64;
            self.changed.notify_waiters();
            let seq = Seq(number.cast_signed());
            Ok(Receipt { position: Position(number), folded: Some(Folded::Stored { seq, conflict }), repeats: false })
        };
        match script {
            Script::Store => stored(false),
            Script::Conflict => stored(true),
            Script::Slow(by) => {
                tokio::time::sleep(by).await;
                stored(false)
            }
            Script::Duplicate => {
                Ok(Receipt { position: Position(1), folded: Some(Folded::Duplicate { seq: Seq(1) }), repeats: true })
            }
            Script::Full => Err(Error::Full(None)),
            Script::Backlog => Err(Error::Backlog),
            Script::Fail => Err(Error::Store("the disk is on fire".into())),
            Script::Closed => Err(Error::Closed),
            #[expect(clippy::panic, reason = "a test asks for it")]
            Script::Panic => panic!("as scripted"),
        }
    }

    fn ready(&self) -> Result<(), Error> {
        if *lock(&self.full) { Err(Error::Full(None)) } else { Ok(()) }
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        lock(&self.refused).extend(refused);
        Ok(())
    }
}

#[async_trait]
impl Upkeep for Double {
    async fn stats(&self) -> Result<Stats, Error> {
        let stats = lock(&self.stats).clone();
        match stats {
            Some(stats) => Ok(stats),
            None => std::future::pending().await,
        }
    }

    async fn expire(&self, _: Timestamp, _: usize) -> Result<Expired, Error> {
        Err(Error::Closed)
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn seal(&self, _: usize) -> Result<Resealed, Error> {
        Ok(Resealed { changed: 0, is_done: true })
    }

    async fn unseal(&self, _: usize) -> Result<Resealed, Error> {
        Err(Error::Closed)
    }

    async fn fold_log(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) {}
}

#[async_trait]
impl Shelf for Double {
    async fn pages(&self, _: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        Ok((1..).zip(&self.pages).map(|(number, page)| (number, page.len() as u64)).collect())
    }

    async fn page(&self, _: ReadingId, number: u32) -> Result<Bytes, Error> {
        let index = number as usize - 1;
        let page = self.pages.get(index).filter(|_| self.broken != Some(index));
        page.cloned().ok_or(Error::Closed)
    }

    async fn connection(&self, _: ReadingId) -> Result<Option<Bytes>, Error> {
        Err(Error::Closed)
    }
}
