//! The one thread that writes: takes what is queued, applies it as one transaction, syncs, then answers.
//!
//! Batches form by themselves while the sync of the previous one runs; there is no timer. A caller that went away is
//! stored all the same. When the store fails in a way that leaves doubt about what is on disk (an I/O error, a failed
//! sync), nothing more is promised until the file was opened afresh, checked, and its log folded into it: a failed
//! `fsync` reports its error once, and a second one that succeeds proves nothing.

use super::{
    counts,
    open::{Opened, Opener},
    shared::{Shared, Touched},
    stages,
    tx::{self, Tx},
};
use crate::Error;
use base::seldom::Seldom;
use rusqlite::ErrorCode;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{self, error::TryRecvError},
        oneshot,
    },
};

/// Operations in one transaction at most.
const BATCH: usize = 512;
/// Operations waiting at most; beyond it callers wait for room.
const QUEUE: usize = 4096;
/// Between two tries to reopen a store that failed.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at the queue while the store is suspect.
const REOPEN_LOOK: Duration = Duration::from_millis(50);

/// Something to be done in a transaction.
trait Operation: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Call<F, T> {
    run: F,
    result: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> Operation for Call<F, T>
where
    F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.result = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { result, reply, .. } = *self;
        // A caller that went away needs no answer; its change is stored.
        drop(reply.send(committed.and_then(|()| result.ok_or(Error::Closed))));
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Operation>>,
}

impl std::fmt::Debug for dyn Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operation")
    }
}

impl Writer {
    /// Starts the thread. It ends when every `Writer` is dropped. Answers go through the runtime that this is called in.
    pub(super) fn start(
        store: Opened,
        opener: Opener,
        shared: Arc<Shared>,
    ) -> std::io::Result<(Self, thread::JoinHandle<()>)> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let runtime = Handle::try_current().ok();
        let thread = thread::Builder::new().name("inbox-writer".to_owned()).spawn(move || {
            Thread {
                connection: Some(store),
                opener,
                shared,
                requests,
                runtime,
                reopen_at: Instant::now(),
                full: Seldom::default(),
                unusable: Seldom::default(),
            }
            .run();
        })?;
        Ok((Self { queue }, thread))
    }

    /// Runs `operation` in the next transaction and answers after its commit was synced. It may run more than once: when
    /// another operation of its batch fails, each is run again alone.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<T, Error>
    where
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { run: operation, result: None, reply });
        self.queue.send(call).await.map_err(|_ended| Error::Closed)?;
        answer.await.map_err(|_ended| Error::Closed)?
    }
}

struct Thread {
    /// `None` while the store is suspect.
    connection: Option<Opened>,
    opener: Opener,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Box<dyn Operation>>,
    /// Where the callers wait; `None` outside of a runtime.
    runtime: Option<Handle>,
    reopen_at: Instant,
    /// It is said that the disk is full.
    full: Seldom,
    /// It is said that the store cannot be opened again.
    unusable: Seldom,
}

impl Thread {
    fn run(mut self) {
        let mut batch: Vec<Box<dyn Operation>> = Vec::with_capacity(BATCH);
        while let Some(first) = self.next() {
            batch.push(first);
            while batch.len() < BATCH {
                match self.requests.try_recv() {
                    Ok(next) => batch.push(next),
                    Err(_) => break,
                }
            }
            self.apply(&mut batch);
        }
        if let Some(opened) = self.connection.take() {
            opened.close();
        }
    }

    /// Waits for an operation; `None` when there will be no more. A suspect store is looked after meanwhile, because a service
    /// that is not ready may be asked nothing for hours.
    fn next(&mut self) -> Option<Box<dyn Operation>> {
        loop {
            if self.connection.is_some() {
                return self.requests.blocking_recv();
            }
            match self.requests.try_recv() {
                Ok(operation) => return Some(operation),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => thread::sleep(REOPEN_LOOK),
            }
            self.reopen_if_suspect();
        }
    }

    /// Commits a batch and answers it; afterwards `batch` is empty.
    fn apply(&mut self, batch: &mut Vec<Box<dyn Operation>>) {
        self.reopen_if_suspect();
        let Some(opened) = &self.connection else {
            for operation in batch.drain(..) {
                operation.answer(Err(Error::Store("the store failed and is being checked".into())));
            }
            return;
        };
        let mut touched = Touched::default();
        self.shared.writer.begins();
        let ran = tx::run(&opened.connection, &mut touched, |tx| {
            batch.iter_mut().try_for_each(|operation| operation.run(tx))
        });
        self.shared.writer.ends(ran.as_ref().is_err_and(is_kept_out));
        match ran {
            Ok(()) => {
                // The figures first: whoever reads an answer may look at them next.
                self.shared.apply(touched);
                self.answer(std::mem::take(batch));
            }
            Err(failed) => {
                if !opened.connection.is_autocommit() {
                    // The transaction is lost either way; a failing rollback shows at the next statement.
                    drop(opened.connection.execute_batch("ROLLBACK"));
                }
                self.fail(batch, failed);
            }
        }
    }

    /// Answers a batch that is committed. To wake a task from a thread outside the runtime costs a system call each time,
    /// and the next batch would wait for that; the runtime's own threads wake each other for next to nothing.
    fn answer(&self, batch: Vec<Box<dyn Operation>>) {
        let several = batch.len() > 1;
        let answers = move || batch.into_iter().for_each(|operation| operation.answer(Ok(())));
        match &self.runtime {
            Some(runtime) if several => drop(runtime.spawn(async { answers() })),
            _ => answers(),
        }
    }

    fn fail(&mut self, batch: &mut Vec<Box<dyn Operation>>, failed: rusqlite::Error) {
        match failed.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                if self.full.is_due() {
                    tracing::error!(code = "store_full", error = %failed, "the inbox's disk is full; events are answered 503 until there is room");
                }
                let failed = Arc::new(failed);
                for operation in batch.drain(..) {
                    operation.answer(Err(Error::Full(Some(Box::new(Arc::clone(&failed))))));
                }
            }
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly,
            ) => {
                tracing::error!(code = "store_failed", error = %failed, "the inbox's store failed; events are answered 503 until it is opened and checked again");
                self.shared.set_suspect(true);
                self.connection = None;
                self.reopen_at = Instant::now() + REOPEN_PAUSE;
                let failed = Arc::new(failed);
                for operation in batch.drain(..) {
                    operation.answer(Err(Error::Store(Box::new(Arc::clone(&failed)))));
                }
            }
            _ if batch.len() > 1 => {
                // One operation is at fault; it must not take its neighbours with it.
                for operation in std::mem::take(batch) {
                    self.apply(&mut vec![operation]);
                }
            }
            _ => {
                for operation in batch.drain(..) {
                    tracing::error!(code = "store_operation_failed", error = %failed, "an operation on the inbox failed");
                    operation.answer(Err(Error::Store(failed.to_string().into())));
                }
            }
        }
    }

    fn reopen_if_suspect(&mut self) {
        if self.connection.is_some() || Instant::now() < self.reopen_at {
            return;
        }
        let reopened = self.opener.reopen().and_then(|opened| {
            tx::run_at_once(&opened.connection, |tx| stages::give_back_unheld(tx, &self.shared))
                .and_then(|_given_back| counts::count_all(&opened.connection))
                .map(|counted| (opened, counted))
                .map_err(|error| Error::Store(Box::new(error)))
        });
        match reopened {
            Ok((opened, counted)) => {
                // Commits that were answered with an error may have brought work.
                self.shared.set_counted(counted);
                self.shared.wake_all();
                tracing::warn!(
                    code = "store_works_again",
                    "the inbox's store was opened again and found whole; events are accepted again"
                );
                self.connection = Some(opened);
                self.shared.set_suspect(false);
            }
            Err(error) => {
                if self.unusable.is_due() {
                    tracing::error!(code = "store_unusable", error = %base::error::chain(&error), "the inbox's store cannot be used yet; said once a minute");
                }
                self.reopen_at = Instant::now() + REOPEN_PAUSE;
            }
        }
    }
}

/// Whether another program holds the file locked.
fn is_kept_out(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}
