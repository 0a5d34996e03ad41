//! An inbox whose store cannot be used: damaged, missing beside its journal, or locked by another program at the start.
//!
//! Events are taken into the journal all the same, because each refusal may be an event that is lost. Nothing else is done
//! until the store is repaired and the service is started again: nothing is folded, nothing is delivered, and the damaged file
//! is not touched. The log, the metrics and `check` say so. Where the store was only locked, it is said when it is free.

use super::payload;
use crate::{
    Act, ActView, Audit, Awaiting, Batch, Charts, Claimed, Desk, EntryPage, EntryView, Erased, Error, Expired, Fill,
    Filter, Held, Identity, Intake, Keys, Lease, Merging, Minute, NewEntry, Outcome, Page, Persons, Place, Position,
    Queue, Reading, ReadingId, Readings, Receipt, Receiver, ReceiverView, Receivers, RefusedView, Resealed, Resume,
    Seen, Seq, Settings, Shelf, Shortfall, SinkName, Sinks, Span, Stage, Stats, Story, Subject, Upkeep, Watch,
    intake::{Folded, Refused},
    journal::{Journal, Limits, identity},
    rules::Order,
    seal::Ring,
    space::Space,
    sqlite,
};
use async_trait::async_trait;
use base::clock::Timestamp;
use bytes::Bytes;
use event::UserId;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Between two looks at a file that is locked.
const LOOK: Duration = Duration::from_secs(1);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Stranded {
    journal: Arc<Journal>,
    space: Space,
    max_waiting: u64,
    problem: String,
    /// The store's file, where it is only locked.
    locked: Option<PathBuf>,
}

/// Opens the journal alone; `problem` says why, and `locked` is the store's file where another program only holds it locked. `None`: there is no journal that says which inbox it belongs to, so nothing
/// that it took could be folded later. With it come keys: the store's own are not known, and nothing is compared or stored
/// with these.
pub(crate) fn open(
    folder: &Path,
    settings: &Settings,
    problem: &str,
    locked: Option<&Path>,
) -> Option<Result<(Arc<Stranded>, Keys), Error>> {
    let identity = identity(folder)?;
    match locked {
        None => tracing::error!(
            code = "store_stranded",
            path = %folder.display(),
            "the inbox cannot be used: {problem}; events are accepted into its journal and nothing is delivered until the inbox is repaired and the service is started again"
        ),
        Some(file) => tracing::error!(
            code = "store_locked",
            path = %file.display(),
            "another program holds the inbox locked: events are accepted into its journal and nothing is delivered; when the inbox is free, the service ends, so that its supervisor starts it afresh"
        ),
    }
    let keys = Keys { identity: Identity(identity), dedup: random(), fingerprints: random() };
    let opened = Ring::new(&settings.key)
        .map_err(Error::from)
        .and_then(|ring| Journal::open(folder, identity, None, Limits::new(settings.journal_max), ring.map(Arc::new)));
    Some(opened.map(|journal| {
        let stranded = Stranded {
            journal: Arc::new(journal),
            space: Space::new(folder.to_owned(), settings.min_free_disk),
            max_waiting: settings.max_waiting,
            problem: problem.to_owned(),
            locked: locked.map(Path::to_owned),
        };
        (Arc::new(stranded), keys)
    }))
}

fn random<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

impl Stranded {
    fn unusable<T>(&self) -> Result<T, Error> {
        Err(Error::Store(self.problem.clone().into()))
    }
}

#[async_trait]
impl Intake for Stranded {
    async fn accept(&self, entry: NewEntry) -> Result<Receipt, Error> {
        self.ready()?;
        let position = self.journal.append(payload::encode(&entry, None)?).await?;
        Ok(Receipt { position, folded: None, repeats: false })
    }

    fn ready(&self) -> Result<(), Error> {
        self.journal.ready()?;
        if !self.space.has_room() {
            return Err(Error::Full(None));
        }
        if self.journal.held(Position(0)) >= self.max_waiting { Err(Error::Backlog) } else { Ok(()) }
    }

    async fn fate(&self, _receipt: &Receipt) -> Result<Option<Folded>, Error> {
        self.unusable()
    }

    async fn refuse(&self, _refused: Vec<Refused>) -> Result<(), Error> {
        self.unusable()
    }
}

#[async_trait]
impl Queue for Stranded {
    async fn claim_merged(
        &self,
        _stage: &Stage,
        _limit: usize,
        _lease_for: Duration,
        _merging: Option<&Merging>,
    ) -> Result<Claimed, Error> {
        // No work, and no error: workers would log one every second for as long as this lasts.
        Ok(Claimed::default())
    }

    async fn wake(&self, _stage: &Stage) {
        std::future::pending::<()>().await;
    }

    async fn renew(&self, _lease: &Lease, _lease_for: Duration) -> Result<(), Error> {
        self.unusable()
    }

    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>> {
        ended.iter().map(|_| self.unusable()).collect()
    }

    async fn awaiting(&self, _user: Option<&UserId>) -> Result<Vec<Awaiting>, Error> {
        Ok(Vec::new())
    }

    async fn resume(&self, _which: &Resume, _limit: usize) -> Result<u64, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Readings for Stranded {
    async fn find_or_begin(&self, _lease: &Lease, _resume_within: Duration) -> Result<Reading, Error> {
        self.unusable()
    }

    async fn begin(&self, _lease: &Lease) -> Result<Reading, Error> {
        self.unusable()
    }

    async fn abandon(&self, _lease: &Lease) -> Result<(), Error> {
        self.unusable()
    }

    async fn last_shortfall(&self, _lease: &Lease) -> Result<Option<Shortfall>, Error> {
        self.unusable()
    }

    async fn keep_page(&self, _lease: &Lease, _reading: ReadingId, _page: Page) -> Result<(), Error> {
        self.unusable()
    }

    async fn replace_accounts(
        &self,
        _lease: &Lease,
        _reading: ReadingId,
        _number: u32,
        _accounts: Bytes,
    ) -> Result<(), Error> {
        self.unusable()
    }

    async fn keep_connection(&self, _lease: &Lease, _reading: ReadingId, _connection: Bytes) -> Result<(), Error> {
        self.unusable()
    }
}

#[async_trait]
impl Shelf for Stranded {
    async fn pages(&self, _reading: ReadingId) -> Result<Vec<(u32, u64)>, Error> {
        self.unusable()
    }

    async fn page(&self, _reading: ReadingId, _number: u32) -> Result<Bytes, Error> {
        self.unusable()
    }

    async fn connection(&self, _reading: ReadingId) -> Result<Option<Bytes>, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Sinks for Stranded {
    async fn paused(&self) -> Result<BTreeMap<SinkName, Timestamp>, Error> {
        // Nothing is delivered in any case.
        Ok(BTreeMap::new())
    }

    async fn pause(&self, _sink: &SinkName, _pause: bool) -> Result<bool, Error> {
        self.unusable()
    }

    async fn set_order(&self, _sink: &SinkName, _order: Order) -> Result<bool, Error> {
        Ok(false)
    }

    async fn resume(&self, _sink: &SinkName, _before: Timestamp, _limit: usize) -> Result<u64, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Audit for Stranded {
    async fn begin(&self, _act: &Act) -> Result<i64, Error> {
        self.unusable()
    }

    async fn end(&self, _number: i64, _entries: u64) -> Result<(), Error> {
        self.unusable()
    }

    async fn acts(&self, _span: Span, _limit: usize) -> Result<Vec<ActView>, Error> {
        self.unusable()
    }

    async fn forget(&self, _cutoff: Timestamp) -> Result<u64, Error> {
        Ok(0)
    }
}

#[async_trait]
impl Charts for Stranded {
    async fn note(&self, _receiver: &str, _minute: &Minute) -> Result<(), Error> {
        self.unusable()
    }

    async fn minutes(&self, _span: Span, _step: u32) -> Result<Vec<Minute>, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Receivers for Stranded {
    async fn report(&self, _receiver: &Receiver) -> Result<(), Error> {
        self.unusable()
    }

    async fn leave(&self, _id: &str) -> Result<(), Error> {
        self.unusable()
    }

    async fn receivers(&self) -> Result<Vec<ReceiverView>, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Desk for Stranded {
    async fn list(&self, _filter: &Filter, _limit: usize) -> Result<Vec<EntryView>, Error> {
        self.unusable()
    }

    async fn page(
        &self,
        _filter: &Filter,
        _behind: Option<Place>,
        _looked: usize,
        _limit: usize,
    ) -> Result<EntryPage, Error> {
        self.unusable()
    }

    async fn body(&self, _seq: Seq) -> Result<Option<Bytes>, Error> {
        self.unusable()
    }

    async fn between(&self, _span: Span) -> Result<Option<(Seq, Seq)>, Error> {
        self.unusable()
    }

    async fn story(&self, _seq: Seq) -> Result<Story, Error> {
        self.unusable()
    }

    async fn replay(&self, _filter: &Filter, _limit: usize) -> Result<Batch, Error> {
        self.unusable()
    }

    async fn fill(&self, _: &SinkName, _: &Filter, _limit: usize, _how: Fill) -> Result<Option<Batch>, Error> {
        self.unusable()
    }

    async fn hand_over(&self, _: &Filter, _to: &SinkName, _limit: usize) -> Result<Option<Batch>, Error> {
        self.unusable()
    }

    async fn park(&self, _filter: &Filter, _limit: usize, _reason: &str) -> Result<Batch, Error> {
        self.unusable()
    }

    async fn purge(&self, _filter: &Filter, _limit: usize) -> Result<Batch, Error> {
        self.unusable()
    }

    async fn refused(&self, _span: Span, _limit: usize) -> Result<Vec<RefusedView>, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Watch for Stranded {
    fn next(&self) -> u64 {
        0
    }

    async fn seen(&self, _from: u64, _limit: usize) -> Result<Seen, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Persons for Stranded {
    async fn held(&self, _subject: &Subject) -> Result<Held, Error> {
        self.unusable()
    }

    async fn erase(&self, _subject: &Subject) -> Result<Erased, Error> {
        self.unusable()
    }
}

#[async_trait]
impl Upkeep for Stranded {
    async fn stats(&self) -> Result<Stats, Error> {
        let (journal_bytes, unfolded) = (self.journal.size(), self.journal.held(Position(0)));
        let free_bytes = self.space.known_free();
        Ok(Stats { free_bytes, journal_bytes, unfolded, is_fold_stuck: true, ..Stats::default() })
    }

    async fn expire(&self, _cutoff: Timestamp, _limit: usize) -> Result<Expired, Error> {
        Ok(Expired { deleted: 0, is_done: true })
    }

    async fn checkpoint(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn seal(&self, _limit: usize) -> Result<Resealed, Error> {
        Ok(Resealed { changed: 0, is_done: true })
    }

    async fn unseal(&self, _limit: usize) -> Result<Resealed, Error> {
        self.unusable()
    }

    async fn fold_log(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn usable_again(&self) {
        let Some(file) = &self.locked else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let file = file.clone();
            if matches!(tokio::task::spawn_blocking(move || sqlite::is_locked(&file)).await, Ok(false)) {
                return;
            }
        }
    }

    async fn close(&self) {
        let journal = Arc::clone(&self.journal);
        if let Err(error) = tokio::task::spawn_blocking(move || journal.end()).await {
            tracing::error!(code = "journal_not_closed", error = %error, "the journal could not be closed");
        }
    }
}
