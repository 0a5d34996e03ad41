//! What changes or reveals something. Each act is written to the audit trail first, under the name of who does it.

use super::{
    access::Who,
    desk::{Desk, no_entry},
    problem::Problem,
};
use crate::{
    control::{self, Changed, Tested},
    story::{
        change::{Change, change},
        export::{self, Export},
    },
    work::Document,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use inbox::{Act, Batch, Erased, Error, Filter, RefusedView, Seq, Span, Subject};
use serde::Serialize;
use std::sync::Arc;

/// What an act did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    /// Entries that were changed.
    pub(super) changed: u64,
    /// Entries that match and stay as they are.
    pub(super) left: u64,
    /// Whether no more match.
    pub(super) is_complete: bool,
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Purged {
    #[serde(flatten)]
    pub(super) done: Done,
    /// Whether nothing of them is left in the log or the journal beside the store.
    pub(super) is_cleared: bool,
}

impl Desk {
    /// Puts matching entries back in line.
    pub(super) async fn replay(&self, who: &Who, which: String, filter: Filter, limit: u64) -> Result<Done, Problem> {
        let work = self.each(filter, limit, Change::Replay);
        self.noted(who, "replay", which, work, |done| done.changed).await
    }

    /// Parks matching entries.
    pub(super) async fn park(
        &self,
        who: &Who,
        which: String,
        (filter, limit): (Filter, u64),
        reason: &str,
    ) -> Result<Done, Problem> {
        let which = format!("{which} --reason {reason:?}");
        let work = self.each(filter, limit, Change::Park(reason));
        self.noted(who, "park", which, work, |done| done.changed).await
    }

    /// Deletes matching entries that are done or parked, and sees to it that nothing of them is left beside the store.
    pub(super) async fn purge(
        &self,
        who: &Who,
        which: String,
        (filter, limit): (Filter, u64),
    ) -> Result<Purged, Problem> {
        let work = self.each(filter, limit, Change::Purge);
        let done = self.noted(who, "purge", which, work, |done| done.changed).await?;
        let is_cleared = self.inbox.upkeep.fold_log().await.is_ok();
        Ok(Purged { done, is_cleared })
    }

    /// Erases everything of somebody.
    pub(super) async fn erase(&self, who: &Who, whose: &Subject) -> Result<Erased, Problem> {
        let which = match whose {
            Subject::User(user) => format!("--user {}", user.as_str()),
            Subject::Connection(connection) => format!("--connection {}", connection.as_str()),
        };
        self.noted(who, "erase", which, self.inbox.persons.erase(whose), |erased| erased.entries).await
    }

    /// Prints matching entries with their events, or all that is held of a user. The stream breaks where the inbox cannot go on.
    pub(super) async fn export(
        &self,
        who: &Who,
        which: String,
        wanted: export::Wanted,
    ) -> Result<impl Stream<Item = Result<Bytes, export::Error>> + use<>, Problem> {
        let number = self.begin(who, "export", which).await?;
        let export = Export::begin(&self.inbox, wanted).await.map_err(|error| Problem::inbox(&error))?;
        let audit = Arc::clone(&self.inbox.audit);
        Ok(stream::try_unfold((export, audit), move |(mut export, audit)| async move {
            let next = export.next().await?;
            if next.is_none() {
                // The act itself is noted; without this its number of lines is missing.
                audit.end(number, export.lines()).await.ok();
            }
            Ok(next.map(|lines| (Bytes::from(lines), (export, audit))))
        }))
    }

    /// Refused requests, with how their bodies began where that was kept.
    pub(super) async fn reveal_refused(
        &self,
        who: &Who,
        which: String,
        (span, limit): (Span, usize),
    ) -> Result<Vec<RefusedView>, Problem> {
        let work = self.inbox.desk.refused(span, limit);
        self.noted(who, "refused --body", which, work, |found| found.len() as u64).await
    }

    /// What the sinks are given of an entry, with bank data.
    pub(super) async fn reveal_document(&self, who: &Who, number: i64) -> Result<Document, Problem> {
        let entry = self.entry(number).await?;
        let work = async { Ok::<_, Error>(self.document(&entry).await) };
        self.noted(who, "reveal", format!("--seq {number} --document"), work, |_| 1).await?
    }

    /// The event of an entry as it came, with bank data.
    pub(super) async fn reveal(&self, who: &Who, number: i64) -> Result<Vec<u8>, Problem> {
        self.entry(number).await?;
        let work = self.inbox.desk.body(Seq(number));
        let body = self.noted(who, "reveal", format!("--seq {number}"), work, |body| body.is_some().into()).await?;
        body.map(Into::into).ok_or_else(no_entry)
    }

    /// Pauses a sink, or lets it go on.
    pub(super) async fn pause(&self, who: &Who, sink: &str, is_paused: bool) -> Result<Changed, Problem> {
        if self.control.sinks.iter().all(|known| known.slot.name().as_str() != sink) {
            return Err(no_sink());
        }
        let what = if is_paused { "sink pause" } else { "sink resume" };
        let changed = self.noted(who, what, sink.to_owned(), self.control.set_paused(sink, is_paused), |_| 0).await?;
        changed.ok_or_else(no_sink)
    }

    /// Makes a test delivery.
    pub(super) async fn test(&self, who: &Who, name: &str) -> Result<Tested, Problem> {
        let sink = self.control.sinks.iter().find(|sink| sink.slot.name().as_str() == name).ok_or_else(no_sink)?;
        let work = async { Ok::<_, Error>(control::try_out(&sink.slot, &self.control.source).await) };
        self.noted(who, "sink test", name.to_owned(), work, |_| 0).await
    }

    /// Changes matching entries.
    async fn each(&self, filter: Filter, limit: u64, what: Change<'_>) -> Result<Done, Error> {
        let Batch { changed, left, last } = change(&*self.inbox.desk, filter, limit, what).await?;
        Ok(Done { changed, left, is_complete: limit > 0 && last.is_none() })
    }

    /// Does something that is written to the audit trail first; what cannot be noted is not done.
    async fn noted<T>(
        &self,
        who: &Who,
        what: &str,
        which: String,
        work: impl Future<Output = Result<T, Error>>,
        entries: impl Fn(&T) -> u64,
    ) -> Result<T, Problem> {
        let number = self.begin(who, what, which).await?;
        let result = work.await.map_err(|error| Problem::inbox(&error))?;
        // The act itself is noted; without this its number of entries is missing.
        self.inbox.audit.end(number, entries(&result)).await.ok();
        Ok(result)
    }

    async fn begin(&self, who: &Who, what: &str, which: String) -> Result<i64, Problem> {
        let act = Act { who: who.name.clone(), what: what.to_owned(), which };
        self.inbox.audit.begin(&act).await.map_err(|error| Problem::inbox(&error))
    }
}

fn no_sink() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_sink", "no sink has this name")
}
