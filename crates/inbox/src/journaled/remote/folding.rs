//! Moves what the journal took into the store, once the server is back.
//!
//! One transaction takes up to [`BATCH`] records; how far that reaches is noted on the disk behind it. A crash in between folds the same
//! records again, and the store knows them by their content. While the server does not answer, it is tried again and again, and the journal
//! keeps what comes. At the end everything is folded, unless the server does not answer: then the next start goes on.

use super::{super::payload, beside::Beside, state::Remote};
use crate::{
    Position,
    fold::Record,
    intake::Fate,
    journal::{self, ReadError, Reader},
    postgres::Postgres,
};
use base::{clock::Timestamp, sync::lock};
use event::Event;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    task::JoinError,
    time::{Instant, error::Elapsed, timeout, timeout_at},
};

/// Records in one transaction at most.
const BATCH: usize = 1_000;
/// Bytes of the events in one transaction, about.
const BATCH_BYTES: usize = 4 << 20;
/// For one transaction.
const FOLD_TIME: Duration = Duration::from_secs(30);
/// Between two tries after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// How long it is tried at the end.
const LAST_TIME: Duration = Duration::from_secs(5);
/// Between two tries at the end.
const LAST_RETRY: Duration = Duration::from_millis(100);
/// Between two looks for segments that can be let go.
const LOOK: Duration = Duration::from_secs(1);

/// Why nothing can be folded now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Payload(#[from] payload::Unreadable),
    #[error(transparent)]
    Store(#[from] crate::Error),
    #[error("PostgreSQL did not answer in time")]
    Late(#[from] Elapsed),
    #[error("how far the journal is folded cannot be noted")]
    Note(#[from] std::io::Error),
    #[error("the fold ended")]
    Ended(#[from] JoinError),
}

/// Starts the task, where there is a journal.
pub(super) fn start(remote: &Arc<Remote>) {
    if let Some(beside) = remote.beside.get() {
        *lock(&beside.folding) = Some(tokio::spawn(run(Arc::clone(remote))));
    }
}

/// Folds until [`Progress::end`](super::super::progress::Progress::end), and then what is left.
async fn run(remote: Arc<Remote>) {
    let Some(beside) = remote.beside.get() else { return };
    let mut fold = Fold { reader: reader(beside), pending: Arc::default() };
    let mut last_try = None;
    loop {
        let is_ending = beside.progress.is_ending();
        if is_ending {
            last_try.get_or_insert_with(|| Instant::now() + LAST_TIME);
        }
        let is_late = last_try.is_some_and(|last| Instant::now() >= last);
        if fold.pending.is_empty() && beside.unfolded() == 0 {
            beside.note_back();
            beside.journal.let_go(beside.progress.folded());
            if is_ending {
                break;
            }
            // Whoever calls in between is remembered.
            drop(timeout(LOOK, beside.called.notified()).await);
            continue;
        }
        let Some(store) = remote.opened() else {
            if is_late {
                say_unfinished(beside);
                break;
            }
            pause(beside).await;
            continue;
        };
        match fold.some(&remote, beside, &store).await {
            Ok(()) => beside.progress.goes_on(),
            Err(stuck) => {
                beside.progress.stuck(&stuck);
                // Looked at before the try: what comes back at the last moment is tried once more.
                if is_late {
                    say_unfinished(beside);
                    break;
                }
                pause(beside).await;
            }
        }
    }
    beside.progress.ended();
}

/// Lets time pass after a failure, whoever calls meanwhile; less where the end has come.
async fn pause(beside: &Beside) {
    let until = Instant::now() + RETRY;
    while !beside.progress.is_ending() {
        if timeout_at(until, beside.called.notified()).await.is_err() {
            return;
        }
    }
    tokio::time::sleep(LAST_RETRY).await;
}

fn say_unfinished(beside: &Beside) {
    tracing::warn!(
        code = "fold_unfinished",
        entries = beside.unfolded(),
        "not every accepted event is in the inbox's store yet; the next start goes on with them"
    );
}

fn reader(beside: &Beside) -> Arc<Mutex<Reader>> {
    Arc::new(Mutex::new(beside.journal.reader(beside.progress.folded())))
}

struct Fold {
    reader: Arc<Mutex<Reader>>,
    /// Records that were read and are not in the store yet.
    pending: Arc<Vec<journal::Record>>,
}

impl Fold {
    async fn some(&mut self, remote: &Remote, beside: &Beside, store: &Postgres) -> Result<(), Stuck> {
        if self.pending.is_empty() {
            let reader = Arc::clone(&self.reader);
            let read = tokio::task::spawn_blocking(move || lock(&reader).read(BATCH, BATCH_BYTES)).await?;
            self.pending = Arc::new(read?);
        }
        let Some(reached) = self.pending.last().map(|record| Position(record.position)) else { return Ok(()) };
        let keys = store.keys();
        let records: Vec<Record> =
            self.pending.iter().map(|found| payload::decode(&found.payload, keys)).collect::<Result<_, _>>()?;
        if let Some(first) = records.first() {
            beside.note_oldest(first.entry.received);
        }
        let told: Vec<(i64, Event)> = records.iter().map(|record| (record.line, record.entry.event.clone())).collect();
        let newest: Option<Timestamp> = records.last().map(|record| record.entry.received);
        let fates = timeout(FOLD_TIME, store.fold(records)).await??;
        let file = Arc::clone(&beside.reached);
        tokio::task::spawn_blocking(move || file.note(reached)).await??;
        let dropped = fates.iter().filter(|folded| folded.is_none()).count();
        if dropped > 0 {
            tracing::warn!(
                code = "erased_events_dropped",
                entries = dropped,
                "events in the journal were of somebody who was erased after they came; they are not brought back"
            );
        }
        let positions = self.pending.iter().map(|record| Position(record.position));
        for ((position, (_, event)), folded) in positions.clone().zip(&told).zip(fates) {
            let Some(folded) = folded else { continue };
            beside.progress.note_fate(position, folded);
            if let Some(tell) = remote.told.get() {
                tell(&Fate { position, event, folded });
            }
        }
        beside.reach(reached, positions.zip(told.iter().map(|(line, _)| *line)), newest);
        self.pending = Arc::default();
        beside.journal.let_go(reached);
        Ok(())
    }
}
