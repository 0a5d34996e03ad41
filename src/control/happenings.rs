//! What happens in the running service, line by line, for `inbox tail`.
//!
//! The stream asks the inbox for the next happenings only when the one before was taken. So a command that reads slowly holds up
//! nothing and lets nothing pile up: it misses happenings, and is told how many.

use base::clock::Timestamp;
use bytes::Bytes;
use futures_util::{Stream, stream};
use inbox::{About, Happening, Watch};
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, convert::Infallible, sync::Arc};

/// Happenings looked up at once.
const AT_ONCE: usize = 256;

/// Which happenings a command wants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// The service that the command has followed until now. From another one it gets everything that is kept.
    pub service: Option<String>,
    /// The first one, of that service.
    pub from: Option<u64>,
    /// For a command that has followed none: so many of those that happened before and are wanted.
    pub last: Option<usize>,
    /// At this sink, or at the fetches (`completion`).
    pub sink: Option<String>,
    /// Of this connection.
    pub connection: Option<String>,
    /// Only these ([`Told::what`]), with commas between them.
    pub what: Option<String>,
}

/// A line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one: which service this is. Each start of it is another one.
    Service(String),
    /// So many happenings were not told, because they came faster than they were read.
    Skipped(u64),
    /// Something happened.
    Happened(Told),
    /// Where to go on, after everything before this line.
    Next(u64),
}

/// Something that happened. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When.
    pub at: String,
    /// `accepted`, `completed`, `delivered`, `dropped`, `waiting`, `parked`
    pub what: String,
    /// Number of the entry.
    pub seq: i64,
    /// `completion`, or the sink's name; `None`: the entry as a whole.
    pub stage: Option<String>,
    /// The id under which it is delivered; this and the next two are `None` where the entry was deleted since.
    pub delivery_id: Option<String>,
    /// The connection.
    pub connection_id: Option<String>,
    /// The user, if the event names one.
    pub user_id: Option<String>,
    /// Why, in one sentence.
    pub reason: Option<String>,
    /// When it is tried again.
    pub due: Option<String>,
}

impl From<Happening> for Told {
    fn from(happening: Happening) -> Self {
        let Happening { at, what, seq, stage, reason, due, about } = happening;
        let (delivery_id, connection, user) = match about {
            Some(About { delivery_id, connection, user }) => (Some(delivery_id), Some(connection), user),
            None => (None, None, None),
        };
        Self {
            at: text(at),
            what: what.as_str().to_owned(),
            seq: seq.0,
            stage: stage.map(|stage| stage.as_str().to_owned()),
            delivery_id: delivery_id.map(|id| id.as_str().to_owned()),
            connection_id: connection.map(|id| id.as_str().to_owned()),
            user_id: user.map(|id| id.as_str().to_owned()),
            reason,
            due: due.map(text),
        }
    }
}

impl Wanted {
    fn matches(&self, told: &Told) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| found.as_ref() == Some(wanted))
        };
        let is_what = self.what.as_ref().is_none_or(|what| what.split(',').any(|word| word == told.what));
        is_what && is(&self.sink, &told.stage) && is(&self.connection, &told.connection_id)
    }

    /// The first happening to tell.
    fn begin(&self, service: &str, next: u64) -> u64 {
        match &self.service {
            None if self.last.is_none_or(|last| last == 0) => next,
            Some(followed) if followed == service => self.from.unwrap_or(next),
            // It was started since, so everything of it is new. Or the last lines that are wanted may be the oldest ones that
            // are kept.
            Some(_) | None => 0,
        }
    }
}

/// One stream.
struct Follower {
    watch: Arc<dyn Watch>,
    wanted: Wanted,
    next: u64,
    /// What happened before this number is history: only the last lines of it are told. `None` once they were.
    history: Option<u64>,
}

impl Follower {
    /// The next lines; `None`: nothing will happen any more.
    async fn lines(&mut self) -> Option<Vec<u8>> {
        if let Some(end) = self.history.take() {
            let lines = self.told_before(end).await?;
            if !lines.is_empty() {
                return Some(lines);
            }
        }
        loop {
            let seen = self.watch.seen(self.next, AT_ONCE).await.ok()?;
            let mut lines = Vec::new();
            if seen.missed > 0 {
                write(&Line::Skipped(seen.missed), &mut lines);
            }
            self.next = seen.next;
            for told in seen.happenings.into_iter().map(Told::from).filter(|told| self.wanted.matches(told)) {
                write(&Line::Happened(told), &mut lines);
            }
            if !lines.is_empty() {
                write(&Line::Next(self.next), &mut lines);
                return Some(lines);
            }
        }
    }

    /// The last lines that are wanted of what happened before a number.
    async fn told_before(&mut self, end: u64) -> Option<Vec<u8>> {
        let last = self.wanted.last.unwrap_or(0);
        let mut kept = VecDeque::new();
        while self.next < end {
            let left = usize::try_from(end - self.next).unwrap_or(AT_ONCE);
            let seen = self.watch.seen(self.next, left.min(AT_ONCE)).await.ok()?;
            self.next = seen.next;
            kept.extend(seen.happenings.into_iter().map(Told::from).filter(|told| self.wanted.matches(told)));
            let excess = kept.len().saturating_sub(last);
            kept.drain(..excess);
        }
        let mut lines = Vec::new();
        for told in kept {
            write(&Line::Happened(told), &mut lines);
        }
        if !lines.is_empty() {
            write(&Line::Next(self.next), &mut lines);
        }
        Some(lines)
    }
}

/// The stream of what a command wants, which ends when nothing will happen any more.
pub(super) fn follow(
    watch: Arc<dyn Watch>,
    service: &str,
    wanted: Wanted,
) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let end = watch.next();
    let next = wanted.begin(service, end);
    let history = wanted.service.is_none().then_some(end);
    let mut first = Vec::new();
    write(&Line::Service(service.to_owned()), &mut first);
    write(&Line::Next(next), &mut first);
    let follower = Follower { watch, wanted, next, history };
    stream::unfold((Some(first), follower), |(first, mut follower)| async move {
        let lines = match first {
            Some(first) => first,
            None => follower.lines().await?,
        };
        Some((Ok(Bytes::from(lines)), (None, follower)))
    })
}

fn write(line: &Line, lines: &mut Vec<u8>) {
    // Texts and numbers always serialise, and a vector takes everything.
    serde_json::to_writer(&mut *lines, line).unwrap_or_default();
    lines.push(b'\n');
}

/// RFC 3339; milliseconds where the year cannot be written.
fn text(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_else(|| at.as_millis().to_string())
}
