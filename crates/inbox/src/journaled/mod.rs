//! The inbox with a journal in front of its store.
//!
//! ```text
//! payload   what the journal holds of an event
//! progress  how far the fold is, what became of the newest events, which contents came a short while ago
//! folding   the thread that moves records from the journal into the store
//! desk      operators' questions, asked once everything accepted so far is in the store
//! upkeep    figures, clearing, the end
//! examine   what is wrong with the files, for `check`
//! pairing   whether the store and the journal belong together
//! remote    a store on a server that may be away, and the journal beside it
//! stranded  the journal alone, while the store cannot be used
//! ```
//!
//! An event is answered after one append and one sync to the journal. Whether it is new, and in which order its connection's
//! entries stand, is decided by the fold, in the order of the positions. While the store cannot be written, events are
//! accepted all the same, until `inbox.journal_max` or `inbox.max_waiting` is reached.

mod desk;
mod examine;
mod folding;
mod pairing;
mod payload;
mod progress;
pub(crate) mod remote;
pub(crate) mod stranded;
mod upkeep;

pub(crate) use desk::PatientDesk;
pub use examine::{Remark, examine, seal_standing};

use crate::{
    Erased, Error, Folded, Held, Intake, NewEntry, Persons, Receipt, Refused, Settings, Subject, Upkeep,
    fold::ContentKey,
    intake::Told,
    journal::{self, Journal, Limits},
    seal::Ring,
    space::Space,
    sqlite::{self, Sqlite},
};
use async_trait::async_trait;
use base::sync::lock;
use progress::Progress;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How long a person's request waits for the fold.
const CATCH_UP: Duration = Duration::from_mins(1);

/// A store behind a journal.
#[derive(Debug)]
pub(crate) struct Journaled {
    store: Arc<Sqlite>,
    journal: Arc<Journal>,
    progress: Arc<Progress>,
    /// Of the journal's disk.
    space: Space,
    /// Whether that is the store's disk, too.
    is_disk_shared: bool,
    max_waiting: u64,
    /// `None` once closed.
    fold: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Journaled {
    /// Opens the journal of a store, and begins to fold what it still holds.
    pub(crate) fn open(store: Arc<Sqlite>, folder: &Path, settings: &Settings) -> Result<Self, Error> {
        let pairing = pairing::look(&store, folder)?;
        let reached = pairing.reached;
        let identity = store.keys().identity.0;
        let ring = Ring::new(&settings.key)?.map(Arc::new);
        let limits = Limits::new(settings.journal_max);
        let journal = Arc::new(Journal::open(folder, identity, Some(reached), limits, ring)?);
        pairing::note(&store, &journal, pairing)?;
        let progress = Arc::new(Progress::new(reached));
        let fold = folding::start(Arc::clone(&journal), Arc::clone(&store), Arc::clone(&progress))
            .map_err(|error| Error::Store(Box::new(error)))?;
        let is_disk_shared = store.space.is_disk_of(folder);
        Ok(Self {
            store,
            journal,
            progress,
            space: Space::new(folder.to_owned(), settings.min_free_disk),
            is_disk_shared,
            max_waiting: settings.max_waiting,
            fold: Mutex::new(Some(fold)),
        })
    }

    /// The store's desk, for this process.
    pub(crate) fn desk(&self) -> PatientDesk {
        let (journal, progress) = (Arc::clone(&self.journal), Arc::clone(&self.progress));
        PatientDesk::new(Arc::clone(&self.store), desk::Fold::Here { journal, progress })
    }

    /// Accepted events that are not in the store yet.
    fn unfolded(&self) -> u64 {
        self.journal.held(self.progress.folded())
    }
}

/// The way in for a command beside the service: closed. Positions are given away by the journal, and the service has that.
#[derive(Debug)]
pub(crate) struct NoIntake;

#[async_trait]
impl Intake for NoIntake {
    async fn accept(&self, _entry: NewEntry) -> Result<Receipt, Error> {
        Err(Error::Closed)
    }

    fn ready(&self) -> Result<(), Error> {
        Err(Error::Closed)
    }

    async fn refuse(&self, _refused: Vec<Refused>) -> Result<(), Error> {
        Err(Error::Closed)
    }
}

/// Refuses to go on without a journal that still holds events which the store does not have.
pub(crate) fn refuse_rest(store: &Sqlite, folder: &Path) -> Result<(), Error> {
    let (identity, reached) = (store.keys().identity.0, store.reached_when_opened());
    let rest = journal::verify(folder, identity, reached.0).map_or(0, |report| report.behind);
    if rest == 0 {
        return Ok(());
    }
    Err(Error::Open {
        path: folder.display().to_string(),
        problem: format!(
            "the journal holds {rest} events that are not in the inbox yet, and inbox.journal is off; start once with \
             inbox.journal = \"{}\"",
            folder.display()
        ),
        source: None,
    })
}

#[async_trait]
impl Intake for Journaled {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.ready()?;
        let content = ContentKey::new(self.store.keys(), entry.event.id.as_str(), &entry.body);
        let appended = self.journal.append(payload::encode(&entry, Some(content))?).await;
        if matches!(appended, Err(Error::Full(_))) {
            self.space.note_full();
        }
        let position = appended?;
        Ok(Receipt { position, folded: None, repeats: self.progress.note_content(content, position) })
    }

    fn ready(&self) -> Result<(), Error> {
        self.journal.ready()?;
        if !self.space.has_room() {
            return Err(Error::Full(None));
        }
        // An event that is being folded may be counted twice for a moment, and never not at all.
        let unfinished = self.unfolded() + self.store.backlog();
        if unfinished >= self.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    async fn fate(&self, receipt: &Receipt) -> Result<Option<Folded>, Error> {
        if self.progress.wait(receipt.position).await {
            Ok(self.progress.fate(receipt.position))
        } else {
            Err(Error::Closed)
        }
    }

    fn on_fold(&self, told: Told) {
        self.progress.set_told(told);
    }

    async fn refuse(&self, refused: Vec<Refused>) -> Result<(), Error> {
        self.store.refuse(refused).await
    }
}

#[async_trait]
impl Persons for Journaled {
    async fn held(&self, subject: &Subject) -> Result<Held, Error> {
        self.catch_up().await?;
        self.store.held(subject).await
    }

    async fn erase(&self, subject: &Subject) -> Result<Erased, Error> {
        // What was accepted before is in the store then, and nothing of it is written to the journal's open segment any more.
        self.journal.close_segment().await;
        self.catch_up().await?;
        let mut erased = self.store.erase_rows(subject).await?;
        self.progress.forget_contents();
        if let Err(error) = Upkeep::fold_log(self).await {
            erased.left.push(sqlite::log_left(&error));
        }
        erased.left.extend(self.journal.unread().into_iter().map(|file| {
            format!(
                "{} is damaged and could not be moved into the inbox, so it may hold events of theirs: repair or delete it",
                file.display()
            )
        }));
        Ok(erased)
    }
}

impl Journaled {
    /// Waits until everything accepted so far is in the store.
    async fn catch_up(&self) -> Result<(), Error> {
        match tokio::time::timeout(CATCH_UP, self.progress.wait(self.journal.synced())).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Closed),
            Err(_elapsed) => {
                Err(Error::Store("accepted events could not be moved from the journal into it in time".into()))
            }
        }
    }
}

impl Drop for Journaled {
    /// The fold holds the journal: without an end it would go on with it.
    fn drop(&mut self) {
        self.progress.end();
        self.journal.stop();
        if let Some(fold) = lock(&self.fold).take() {
            drop(fold.join());
        }
    }
}
