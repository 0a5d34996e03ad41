//! Destinations of completed events: one file each, behind one small interface.
//!
//! In: a [`Delivery`]. Out: `Ok` once the destination has taken it durably (by its own measure), or a [`Failure`] that says
//! what to do next. A sink never retries by itself: retries are rows in the inbox, decided by `work::retry`.

mod cloudevent;
mod file;
#[cfg(test)]
pub(crate) mod fixture;
mod http;
mod signature;
mod stdout;
mod writer;

pub use cloudevent::{Attributes, Completion};
pub use signature::sign;

use crate::{
    config::{self, SinkKind},
    inbox::{self, Inbox, ReadingId},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{io, path::PathBuf, sync::Arc, time::Duration};

/// Opens a configured sink: files are opened and mended, clients built; nothing is connected to.
///
/// # Errors
/// What has to be corrected before the sink can work.
pub fn open(config: &config::Sink) -> Result<Arc<dyn Sink>, OpenError> {
    let sink: Result<Arc<dyn Sink>, Problem> = match &config.kind {
        SinkKind::Stdout => stdout::Stdout::open().map(|sink| Arc::new(sink) as _).map_err(Problem::Stdout),
        SinkKind::File { path } => file::Lines::open(path)
            .map(|sink| Arc::new(sink) as _)
            .map_err(|source| Problem::File { path: path.clone(), source }),
        SinkKind::Http { url, secrets, timeout, authorities } => {
            let settings = http::Settings::new(url, secrets, *timeout, authorities);
            settings.map(|settings| Arc::new(http::Http::new(settings)) as _)
        }
    };
    sink.map_err(|problem| OpenError { sink: config.name.clone(), problem })
}

/// Other settings for a sink that is open, checked and ready: using them cannot fail.
#[derive(Debug)]
pub struct Replacement(http::Settings);

impl Replacement {
    /// Reads what the settings name; `None` for kinds of sink that cannot change while they are open.
    ///
    /// # Errors
    /// What has to be corrected before they can be used.
    pub fn new(config: &config::Sink) -> Result<Option<Self>, OpenError> {
        let SinkKind::Http { url, secrets, timeout, authorities } = &config.kind else { return Ok(None) };
        let settings = http::Settings::new(url, secrets, *timeout, authorities);
        let settings = settings.map_err(|problem| OpenError { sink: config.name.clone(), problem })?;
        Ok(Some(Self(settings)))
    }
}

/// A sink that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the sink {sink}")]
pub struct OpenError {
    /// Its configured name.
    pub sink: String,
    #[source]
    problem: Problem,
}

/// Why.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot use standard output")]
    Stdout(#[source] io::Error),
    #[error("cannot use the file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the file {} holds no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the url cannot be read: {0}")]
    Url(String),
    #[error(transparent)]
    Secret(#[from] signature::SecretError),
    #[error("cannot build the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// One hand-over of one entry to one sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The `CloudEvents` context attributes.
    pub attributes: Attributes,
    /// The completed event.
    pub content: Content,
}

/// The completed event's JSON: kept in pieces, so that a connection of 100,000 accounts never stands in memory at once.
#[derive(Clone, Debug)]
pub struct Content {
    /// Everything, or everything up to the first account.
    head: Bytes,
    /// Where the accounts come from, if not in `head`.
    pages: Option<Pages>,
    /// Everything behind the last account.
    tail: Bytes,
}

#[derive(Clone, Debug)]
struct Pages {
    inbox: Arc<dyn Inbox>,
    reading: ReadingId,
    /// Number and bytes of each page that holds accounts.
    list: Vec<(u32, u64)>,
}

impl Content {
    /// An event that came whole.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        Self { head: body, pages: None, tail: Bytes::new() }
    }

    /// A truncated event with its accounts put in place.
    ///
    /// # Errors
    /// The inbox's, when the list of pages cannot be read.
    pub async fn completed(
        inbox: Arc<dyn Inbox>,
        reading: ReadingId,
        before: Bytes,
        after: Bytes,
    ) -> Result<Self, inbox::Error> {
        let list = inbox.pages(reading).await?.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        Ok(Self { head: before, pages: Some(Pages { inbox, reading, list }), tail: after })
    }

    /// Bytes of the whole JSON.
    #[must_use]
    pub fn len(&self) -> u64 {
        let accounts = self.pages.as_ref().map_or(0, |pages| {
            pages.list.iter().map(|(_, bytes)| bytes).sum::<u64>() + (pages.list.len() as u64).saturating_sub(1)
        });
        self.head.len() as u64 + accounts + self.tail.len() as u64
    }

    /// Never true for an event; here because `len` is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Walks the pieces in order; one page is in memory at a time. Call with the index 0, 1, ... until `None`.
    ///
    /// # Errors
    /// The inbox's, when a page cannot be read.
    pub async fn piece(&self, index: usize) -> Result<Option<Bytes>, inbox::Error> {
        let list: &[(u32, u64)] = self.pages.as_ref().map_or(&[], |pages| &pages.list);
        if index == 0 {
            return Ok(Some(self.head.clone()));
        }
        if let (Some(pages), Some((number, _))) = (&self.pages, list.get(index - 1)) {
            let accounts = pages.inbox.page(pages.reading, *number).await?;
            if index == 1 {
                return Ok(Some(accounts));
            }
            let mut joined = Vec::with_capacity(accounts.len() + 1);
            joined.push(b',');
            joined.extend_from_slice(&accounts);
            return Ok(Some(joined.into()));
        }
        Ok((index == list.len() + 1).then(|| self.tail.clone()))
    }
}

/// Why a delivery did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What follows from it.
    pub kind: FailureKind,
    /// One sentence for people: what the destination said or did. Never quotes bodies or secrets.
    pub reason: String,
}

impl Failure {
    /// A failure that is worth retrying when the worker's own backoff says so.
    #[must_use]
    pub fn transient(reason: String) -> Self {
        Self { kind: FailureKind::Transient { after: None }, reason }
    }
}

/// What follows from a failed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Worth retrying; `after` is the destination's own wish (`Retry-After`).
    Transient {
        /// Not before this long.
        after: Option<Duration>,
    },
    /// Refused, and probably for good: parked after a few tries.
    Refused,
    /// The destination will never take this entry: parked at once.
    Gone,
}

/// A destination.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands over one entry. Returns `Ok` only after the destination has it.
    ///
    /// # Cancel safety
    /// When dropped half-way, the destination may or may not have the entry; it is delivered again with the same id.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Failure>;

    /// Opens files again by name (SIGHUP, after log rotation). Nothing to do for most.
    async fn reopen(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Delivers with other settings from now on. Nothing to do for kinds that have no [`Replacement`].
    fn replace(&self, _replacement: Replacement) {}
}
