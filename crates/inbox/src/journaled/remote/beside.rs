//! The journal beside the store: when it takes an event, and which connections have events in it.

use super::{
    super::{payload, progress::Progress},
    reached::Reached,
};
use crate::{
    Error, Keys, NewEntry, Position, Receipt, Settings,
    fold::ContentKey,
    journal::{Journal, Limits},
    seal::Ring,
    space::Space,
};
use base::{clock::Timestamp, seldom::Seldom, sync::lock};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::Notify, task::JoinHandle};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) journal: Arc<Journal>,
    pub(super) progress: Arc<Progress>,
    pub(super) reached: Arc<Reached>,
    pub(super) space: Space,
    /// Something was appended, or the end has come.
    pub(super) called: Notify,
    max_waiting: u64,
    /// What was in it when it was opened reaches to here. Of which connections that is is not known before it is folded.
    before: Position,
    /// How many events each line has in it, of those that came since.
    lines: Mutex<HashMap<i64, usize>>,
    /// When the oldest event in it came, about.
    oldest: Mutex<Option<Timestamp>>,
    /// The server did not answer the last time.
    is_away: AtomicBool,
    /// That was said.
    is_told: AtomicBool,
    outages: Seldom,
    /// The task that folds; `None` before it runs, and once the end has come.
    pub(super) folding: Mutex<Option<JoinHandle<()>>>,
}

impl Beside {
    /// Opens the journal of an inbox in this folder.
    pub(super) fn open(folder: &Path, identity: [u8; 16], settings: &Settings) -> Result<Self, Error> {
        let unusable = |error| Error::Open {
            path: folder.display().to_string(),
            problem: "the journal's folder cannot be used; check its owner, its mode and its disk".to_owned(),
            source: Some(Box::new(error)),
        };
        base::folder::make(folder).map_err(unusable)?;
        let (reached, position) = Reached::open(folder).map_err(unusable)?;
        let ring = Ring::new(&settings.key)?.map(Arc::new);
        let limits = Limits::new(settings.journal_max);
        let journal = Arc::new(Journal::open(folder, identity, position, limits, ring)?);
        let before = journal.synced();
        // Nothing says how far it is folded: all that is there is folded again.
        let progress = Arc::new(Progress::new(position.unwrap_or_default()));
        let this = Self {
            progress,
            reached: Arc::new(reached),
            space: Space::new(folder.to_owned(), settings.min_free_disk),
            called: Notify::new(),
            max_waiting: settings.max_waiting,
            before,
            lines: Mutex::default(),
            oldest: Mutex::default(),
            is_away: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            outages: Seldom::default(),
            folding: Mutex::default(),
            journal,
        };
        if this.unfolded() > 0 {
            tracing::warn!(
                code = "journal_not_empty",
                entries = this.unfolded(),
                "events that were accepted while PostgreSQL did not answer are in the journal; they are moved into the inbox now"
            );
        }
        Ok(this)
    }

    /// Accepted events that are not in the store yet, as far as is known here.
    pub(super) fn unfolded(&self) -> u64 {
        self.journal.held(self.progress.folded())
    }

    /// When the oldest of them came, about.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        if self.unfolded() > 0 { *lock(&self.oldest) } else { None }
    }

    /// Whether an event of this line may go to the store: none of its line is here, and the server is not known to be away.
    pub(super) fn lets_pass(&self, line: i64) -> bool {
        if self.unfolded() == 0 && lock(&self.lines).is_empty() {
            return true;
        }
        !self.is_away.load(Ordering::Acquire)
            && self.progress.folded() >= self.before
            && !lock(&self.lines).contains_key(&line)
    }

    /// The server did not answer.
    pub(super) fn note_away(&self) {
        self.is_away.store(true, Ordering::Release);
        // A server that comes and goes all the time is told of once a minute.
        if !self.is_told.load(Ordering::Acquire) && self.outages.is_due() {
            self.is_told.store(true, Ordering::Release);
            tracing::warn!(
                code = "journal_takes_events",
                "PostgreSQL does not answer: events are accepted into the journal until it does"
            );
        }
    }

    /// The server took what was here.
    pub(super) fn note_back(&self) {
        if self.is_away.swap(false, Ordering::AcqRel) && self.is_told.swap(false, Ordering::AcqRel) {
            tracing::warn!(code = "journal_rests", "PostgreSQL answers again: events are accepted into it");
        }
    }

    /// Makes an event durable here. `keys` are those of the store, where it was there once.
    pub(super) async fn accept(&self, entry: NewEntry, line: i64, keys: Option<&Keys>) -> Result<Receipt, Error> {
        self.ready(0)?;
        let content = keys.map(|keys| ContentKey::new(keys, entry.event.id.as_str(), &entry.body));
        let payload = payload::encode(&entry, content)?;
        lock(&self.oldest).get_or_insert(entry.received);
        // Before it is there: the next one of its connection must not be faster.
        let mut counted = Counted::new(self, line);
        let appended = self.journal.append(payload).await;
        if matches!(appended, Err(Error::Full(_))) {
            self.space.note_full();
        }
        let position = appended?;
        counted.stays = true;
        self.called.notify_one();
        let repeats = content.is_some_and(|content| self.progress.note_content(content, position));
        Ok(Receipt { position, folded: None, repeats })
    }

    /// Whether an event would be taken. `backlog` are the unfinished entries of the store.
    pub(super) fn ready(&self, backlog: u64) -> Result<(), Error> {
        self.journal.ready()?;
        if !self.space.has_room() {
            return Err(Error::Full(None));
        }
        if self.unfolded() + backlog >= self.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    /// Everything up to here is in the store; these lines had one event each of it.
    pub(super) fn reach(
        &self,
        position: Position,
        lines: impl Iterator<Item = (Position, i64)>,
        newest: Option<Timestamp>,
    ) {
        {
            let mut counts = lock(&self.lines);
            for (position, line) in lines {
                if position > self.before {
                    uncount(&mut counts, line);
                }
            }
        }
        self.progress.reach(position);
        *lock(&self.oldest) = if self.unfolded() > 0 { newest } else { None };
    }

    /// The oldest event came then.
    pub(super) fn note_oldest(&self, received: Timestamp) {
        lock(&self.oldest).get_or_insert(received);
    }
}

fn uncount(counts: &mut HashMap<i64, usize>, line: i64) {
    if let Some(count) = counts.get_mut(&line) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&line);
        }
    }
}

/// An event of a line that is about to be here; not counted any more where it could not be appended.
struct Counted<'a> {
    beside: &'a Beside,
    line: i64,
    stays: bool,
}

impl<'a> Counted<'a> {
    fn new(beside: &'a Beside, line: i64) -> Self {
        *lock(&beside.lines).entry(line).or_default() += 1;
        Self { beside, line, stays: false }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.stays {
            uncount(&mut lock(&self.beside.lines), self.line);
        }
    }
}
