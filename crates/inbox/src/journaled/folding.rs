//! The thread that moves records from the journal into the store.
//!
//! One transaction takes up to [`BATCH`] records, and the position that they reach with them. So a crash at any moment
//! loses nothing and stores nothing twice. The commit is synced (`synchronous=FULL`), therefore a segment may be let go as
//! soon as the commit of its last record has returned.
//!
//! A lone record is folded at once. While more come, a pause between transactions lets them gather, unless somebody waits: the more
//! came, the longer, because a transaction of many records writes each page of an index once for all of them. While very many come
//! there is no pause.
//! When the store fails, the thread tries again until it works or the service ends; the journal keeps what comes meanwhile.

use super::{payload, progress::Progress};
use crate::{
    Position,
    fold::Record,
    intake::Fate,
    journal::{self, Journal, ReadError, Reader},
    sqlite::Sqlite,
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Records in one transaction at most.
const BATCH: usize = 4_000;
/// Bytes of the events in one transaction, about.
const BATCH_BYTES: usize = 8 << 20;
/// From one transaction to the next, for each record of the one before, while nobody waits.
const GATHER: Duration = Duration::from_micros(100);
/// The shortest such pause.
const GATHER_AT_LEAST: Duration = Duration::from_millis(50);
/// The longest such pause.
const GATHER_AT_MOST: Duration = Duration::from_millis(150);
/// Between two looks whether a whole batch is there.
const GATHER_LOOK: Duration = Duration::from_millis(5);
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks for segments that can be let go.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the thread. It ends after [`Progress::end`], once everything is folded or the store refuses.
pub(super) fn start(
    journal: Arc<Journal>,
    store: Arc<Sqlite>,
    progress: Arc<Progress>,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let reader = journal.reader(progress.folded());
    thread::Builder::new().name("inbox-fold".to_owned()).spawn(move || {
        let mut fold = Fold { journal, store, progress, runtime, reader, pending: Vec::new(), next: None };
        while catch_unwind(AssertUnwindSafe(|| fold.run())).is_err() {
            tracing::error!(code = "fold_panicked", "the fold panicked; it begins again behind what is in the store");
            fold.restart();
            fold.progress.rest(RETRY);
        }
        fold.progress.ended();
    })
}

struct Fold {
    journal: Arc<Journal>,
    store: Arc<Sqlite>,
    progress: Arc<Progress>,
    /// Only to wait for the store's writer.
    runtime: Runtime,
    reader: Reader,
    /// Records that were read and are not in the store yet.
    pending: Vec<journal::Record>,
    /// Until when records gather after the last transaction.
    next: Option<Instant>,
}

/// Why nothing can be folded now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Payload(#[from] payload::Unreadable),
    #[error(transparent)]
    Store(#[from] crate::Error),
}

impl Fold {
    fn run(&mut self) {
        loop {
            if self.pending.is_empty() && !self.reader.wait(LOOK) {
                if self.progress.is_ending() {
                    return;
                }
                self.journal.let_go(self.progress.folded());
                continue;
            }
            self.gather();
            match self.fold_some() {
                Ok(()) => self.progress.goes_on(),
                Err(stuck) => {
                    self.progress.stuck(&stuck);
                    if self.progress.is_ending() {
                        tracing::warn!(
                            code = "fold_unfinished",
                            "not every accepted event is in the inbox's store yet; the next start goes on with them"
                        );
                        return;
                    }
                    self.progress.rest(RETRY);
                }
            }
        }
    }

    /// Lets records gather for a moment after a transaction, unless a whole batch is there, or somebody waits.
    fn gather(&self) {
        let Some(until) = self.next else { return };
        while Instant::now() < until && self.journal.held(self.progress.folded()) < BATCH as u64 {
            if self.progress.pause(until.min(Instant::now() + GATHER_LOOK)) {
                return;
            }
        }
    }

    /// Forgets what was read.
    fn restart(&mut self) {
        self.pending.clear();
        self.reader = self.journal.reader(self.progress.folded());
    }

    fn fold_some(&mut self) -> Result<(), Stuck> {
        if self.pending.is_empty() {
            self.pending = self.reader.read(BATCH, BATCH_BYTES)?;
        }
        let Some(reached) = self.pending.last().map(|record| Position(record.position)) else { return Ok(()) };
        let keys = self.store.keys();
        let decoded = |found: &journal::Record| Ok((Position(found.position), payload::decode(&found.payload, keys)?));
        let records = self.pending.iter().map(decoded);
        let records: Vec<(Position, Record)> = records.collect::<Result<_, payload::Unreadable>>()?;
        let records = Arc::new(records);
        let fates = self.runtime.block_on(self.store.fold(Arc::clone(&records)))?;
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        self.next = Some(Instant::now() + GATHER.saturating_mul(count).clamp(GATHER_AT_LEAST, GATHER_AT_MOST));
        self.pending.clear();
        for ((position, record), folded) in records.iter().zip(fates) {
            let Some(folded) = folded else { continue };
            self.progress.note_fate(*position, folded);
            if let Some(told) = self.progress.told() {
                told(&Fate { position: *position, event: &record.entry.event, folded });
            }
        }
        self.progress.reach(reached);
        self.journal.let_go(reached);
        Ok(())
    }
}
