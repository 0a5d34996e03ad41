//! What the page and the API show and do: the inbox, the running work, and the audit trail before every act.

use super::{access::Who, problem::Problem};
use crate::{
    control::{self, Changed},
    receive::tls::Certificate,
    story::find::bounded,
};
use http::StatusCode;
use inbox::{Act, EntryView, Error, Filter, Inbox, Seq, StageCounts, State};
use serde::Serialize;
use std::{fmt, sync::Arc};

/// Entries looked at for one page of a list at most. What a filter finds by no index is looked for among so many; the next page goes on
/// behind them. So no question takes long, however many entries there are.
const WINDOW: i64 = 50_000;
/// So much unfinished work is found by an index (as the store does it).
const FEW: u64 = 10_000;
/// Entries changed at once.
const BATCH: usize = 500;

/// Tells which certificates are in use, each with what it is for.
pub type Certificates = Arc<dyn Fn() -> Vec<(&'static str, Certificate)> + Send + Sync>;

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
    pub(super) next: Option<i64>,
}

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

impl Desk {
    /// The newest entries that match, below the filter's `before`.
    pub(super) async fn find(&self, filter: Filter, limit: usize) -> Result<Found, Error> {
        let desk = &*self.inbox.desk;
        let before = filter.before;
        let mut filter = bounded(desk, filter).await?;
        filter.before = [filter.before, before].into_iter().flatten().min();
        // An id, a number, and unfinished work of which there is little are found by an index, however old they are.
        let is_indexed = filter.id.is_some() || filter.seq.is_some() || self.are_few(filter.state).await?;
        let newest = desk.list(&Filter::default(), 1).await?.first().map_or(0, |entry| entry.seq.0);
        let top = filter.before.map_or(newest + 1, |Seq(before)| before.min(newest + 1));
        let bottom = filter.after.map_or(0, |Seq(after)| after);
        let floor = if is_indexed { bottom } else { bottom.max(top.saturating_sub(WINDOW)) };
        filter.after = Some(Seq(floor));
        let entries = desk.list(&filter, limit).await?;
        let next = match entries.last() {
            Some(last) if entries.len() == limit => Some(last.seq.0),
            _ => (floor > bottom).then_some(floor + 1),
        };
        Ok(Found { entries, next: next.filter(|next| *next > bottom + 1) })
    }

    /// Whether little work is in a state, by the figures that are kept.
    async fn are_few(&self, state: Option<State>) -> Result<bool, Error> {
        let count: fn(&StageCounts) -> u64 = match state {
            Some(State::Parked) => |counts| counts.parked,
            Some(State::Waiting | State::Leased) => |counts| counts.waiting + counts.leased,
            Some(State::Done) | None => return Ok(false),
        };
        let figures = self.inbox.upkeep.stats().await?;
        Ok(figures.stages.iter().map(|(_, counts)| count(counts)).sum::<u64>() <= FEW)
    }

    /// The entry with a number.
    pub(super) async fn entry(&self, number: i64) -> Result<EntryView, Problem> {
        let filter = Filter { seq: Some(Seq(number)), ..Filter::default() };
        let found = self.inbox.desk.list(&filter, 1).await.map_err(|error| Problem::inbox(&error))?;
        found.into_iter().next().ok_or_else(no_entry)
    }

    /// Puts matching entries back in line.
    pub(super) async fn replay(&self, who: &Who, which: String, filter: Filter, limit: u64) -> Result<Done, Problem> {
        let work = self.each(filter, limit, None);
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
        let work = self.each(filter, limit, Some(reason));
        self.noted(who, "park", which, work, |done| done.changed).await
    }

    /// The event of an entry as it came, with bank data.
    pub(super) async fn reveal(&self, who: &Who, number: i64) -> Result<Vec<u8>, Problem> {
        self.entry(number).await?;
        let work = self.inbox.desk.body(Seq(number));
        let body = self.noted(who, "reveal", format!("--seq {number}"), work, |body| body.is_some().into()).await?;
        body.map(Into::into).ok_or_else(no_entry)
    }

    /// The event of an entry without bank data.
    pub(super) async fn masked(&self, number: i64) -> Result<String, Problem> {
        let body = self.inbox.desk.body(Seq(number)).await.map_err(|error| Problem::inbox(&error))?;
        body.map(|body| crate::story::mask::masked(&body)).ok_or_else(no_entry)
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

    /// Parks matching entries for a reason, or puts them back in line: batch by batch, each once, so that the service gets to
    /// write in between.
    async fn each(&self, filter: Filter, limit: u64, parked: Option<&str>) -> Result<Done, Error> {
        let desk = &*self.inbox.desk;
        let mut filter = bounded(desk, filter).await?;
        let mut done = Done { changed: 0, left: 0, is_complete: false };
        while done.changed < limit {
            let wanted = BATCH.min(usize::try_from(limit - done.changed).unwrap_or(BATCH));
            let batch = match parked {
                Some(reason) => desk.park(&filter, wanted, reason).await?,
                None => desk.replay(&filter, wanted).await?,
            };
            done.changed += batch.changed;
            done.left += batch.left;
            let Some(last) = batch.last else {
                done.is_complete = true;
                break;
            };
            filter.after = Some(last);
        }
        Ok(done)
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
        let act = Act { who: who.name.clone(), what: what.to_owned(), which };
        let number = self.inbox.audit.begin(&act).await.map_err(|error| Problem::inbox(&error))?;
        let result = work.await.map_err(|error| Problem::inbox(&error))?;
        // The act itself is noted; without this its number of entries is missing.
        self.inbox.audit.end(number, entries(&result)).await.ok();
        Ok(result)
    }
}

fn no_entry() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_entry", "no entry has this number")
}

fn no_sink() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_sink", "no sink has this name")
}
