//! What the page and the API show: the inbox, and the running work.

use super::problem::Problem;
use crate::{
    control,
    receive::tls::{Certificate, Listener},
    story::json::Cursor,
    work::{self, Document},
};
use bytes::Bytes;
use http::StatusCode;
use inbox::{EntryPage, EntryView, Error, Facts, Filter, Inbox, Seq, Stage, StageView, State, Story};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Entries looked at in one step of a search that no index helps.
const LOOKED: usize = 10_000;
/// A search takes its next step as long as it has not taken this long; the page after it goes on behind. So no question takes long,
/// however many entries there are.
const TIME: Duration = Duration::from_millis(100);
/// Bytes of a delivered document that are shown.
const LONGEST: u64 = 2 * 1024 * 1024;

/// Tells which certificates are in use, each with whose it is.
pub type Certificates = Arc<dyn Fn() -> Vec<(Listener, Certificate)> + Send + Sync>;

/// What the page and the API work on. Clones share it.
#[derive(Clone)]
pub struct Desk {
    /// The inbox.
    pub inbox: Inbox,
    /// The running work.
    pub control: control::State,
    /// The certificates in use.
    pub certificates: Certificates,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// One page of a list.
pub(super) struct Found {
    pub(super) entries: Vec<EntryView>,
    /// Where the next page begins; `None`: everything was looked at.
    pub(super) next: Option<Cursor>,
}

impl Desk {
    /// Entries that match, the one that was accepted last first: those behind a place.
    pub(super) async fn find(&self, filter: &Filter, behind: Option<Cursor>, limit: usize) -> Result<Found, Error> {
        let began = Instant::now();
        let mut found = Found { entries: Vec::new(), next: behind };
        loop {
            let behind = found.next.map(|Cursor(place)| place);
            let left = limit - found.entries.len();
            let EntryPage { mut entries, next } = self.inbox.desk.page(filter, behind, LOOKED, left).await?;
            found.entries.append(&mut entries);
            found.next = next.map(Cursor);
            if found.next.is_none() || found.entries.len() >= limit || began.elapsed() >= TIME {
                return Ok(found);
            }
        }
    }

    /// The entry with a number.
    pub(super) async fn entry(&self, number: i64) -> Result<EntryView, Problem> {
        let filter = Filter { seq: Some(Seq(number)), ..Filter::default() };
        let found = self.inbox.desk.list(&filter, 1).await.map_err(|error| Problem::inbox(&error))?;
        found.into_iter().next().ok_or_else(no_entry)
    }

    /// The event of an entry as it came, with bank data: nothing for the eyes of anybody.
    pub(super) async fn event(&self, number: i64) -> Result<Bytes, Problem> {
        let body = self.inbox.desk.body(Seq(number)).await.map_err(|error| Problem::inbox(&error))?;
        body.ok_or_else(no_entry)
    }

    /// What the sinks are given of an entry, with bank data.
    pub(super) async fn document(&self, entry: &EntryView) -> Result<Document, Problem> {
        let Story { facts, .. } = self.inbox.desk.story(entry.seq).await.map_err(|error| Problem::inbox(&error))?;
        self.document_of(entry, facts.as_ref()).await
    }

    /// The same, where the facts of the entry are known.
    pub(super) async fn document_of(&self, entry: &EntryView, facts: Option<&Facts>) -> Result<Document, Problem> {
        let is_fetched = |stage: &StageView| !matches!(stage.stage, Stage::Fetch(_)) || stage.state == State::Done;
        if !entry.stages.iter().all(is_fetched) {
            return Ok(Document::Missing("its accounts are not fetched yet".to_owned()));
        }
        let body = self.event(entry.seq.0).await?;
        let Some(facts) = facts else { return Err(no_entry()) };
        let document = work::document(&self.inbox.shelf, &self.control.source, (facts, &body), LONGEST);
        document.await.map_err(|error| Problem::inbox(&error))
    }
}

pub(super) fn no_entry() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_entry", "no entry has this number")
}
