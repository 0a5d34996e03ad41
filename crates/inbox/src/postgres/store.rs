//! The open inbox on a server: what every interface needs of it, and the task that looks after it.

use super::{
    clock::Clock,
    connect::Pool,
    lines,
    shared::{Accepting, Shared, Touched},
    stages::{self, StageRow},
    tx::{self, Statement, Trouble, Tx, statement},
    vault::{self, Turn, Vault},
};
use crate::{
    Error, Keys, Lease, Seq, Source,
    kind::{Kind, Sinks},
};
use base::{error::chain, sync::lock};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64},
    },
};
use tokio::sync::mpsc;
use tokio_postgres::Row;

/// The inbox on a server. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Postgres(pub(super) Arc<Core>);

/// See [`Postgres`].
#[derive(Debug)]
pub(super) struct Core {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) shared: Arc<Shared>,
    pub(super) sinks: Sinks,
    pub(super) keys: Keys,
    pub(super) vault: Vault,
    /// How far the sealing of old rows is.
    pub(super) turn: tokio::sync::Mutex<Turn>,
    /// Tells this receiver from others; a new one with each opening.
    pub(super) number: u64,
    pub(super) max_waiting: u64,
    /// Refused requests that are kept.
    pub(super) refused: u64,
    /// `None` once closed.
    pub(super) committer: Mutex<Option<mpsc::Sender<Accepting>>>,
    pub(super) committing: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Why the server takes no events; `None`: it does, as far as is known.
    pub(super) trouble: Mutex<Option<Failed>>,
    /// One look at the counts at a time, so that an older one never replaces a newer one.
    pub(super) counting: tokio::sync::Mutex<()>,
    /// Something was deleted at somebody's wish, and the tables were not cleaned up since.
    pub(super) is_to_be_cleaned: AtomicBool,
    /// The last entry that retention has looked at in its present round.
    pub(super) looked_at: AtomicI64,
}

impl Postgres {
    /// The identity and the keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Runs a change as a task of its own: whoever waits for it may go away, and the change happens whole all the same.
    pub(super) async fn detached<T, F>(&self, change: impl FnOnce(Arc<Core>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Trouble>> + Send + 'static,
        T: Send + 'static,
    {
        self.0.is_open()?;
        let task = tokio::spawn(change(Arc::clone(&self.0)));
        let ended = task.await.map_err(|error| Error::Store(Box::new(error)))?;
        Ok(ended?)
    }
}

impl Core {
    pub(super) fn is_open(&self) -> Result<(), Error> {
        if self.shared.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// The way to the committer.
    pub(super) fn committer(&self) -> Result<mpsc::Sender<Accepting>, Error> {
        lock(&self.committer).clone().ok_or(Error::Closed)
    }

    /// Whether the server takes events, as far as is known.
    pub(super) fn is_well(&self) -> Result<(), Error> {
        self.is_open()?;
        lock(&self.trouble).as_ref().map_or(Ok(()), |failed| Err(failed.error()))
    }

    /// Notes how the last commit or look went.
    pub(super) fn note(&self, trouble: Option<Failed>) {
        *lock(&self.trouble) = trouble;
    }

    /// Commits a transaction, and tells what it changed.
    pub(super) async fn commit(&self, tx: Tx, last: &[Statement], touched: Touched) -> Result<Vec<Vec<Row>>, Trouble> {
        let xid = tx.xid;
        let rows = tx.commit(last).await?;
        self.shared.apply(xid, touched);
        Ok(rows)
    }

    /// Stores a board, and what else there is to be written before and after it, and tells what changed.
    pub(super) async fn store(
        &self,
        tx: Tx,
        board: super::board::Board,
        (mut first, last): (Vec<Statement>, Vec<Statement>),
        touched: Touched,
    ) -> Result<(), Trouble> {
        let (writes, touched) = board.end(tx.slot, touched);
        first.extend(writes);
        first.extend(last);
        self.commit(tx, &first, touched).await.map(drop)
    }

    /// Looks at the counts of stages.
    pub(super) async fn count(&self) -> Result<(), Trouble> {
        let _alone = self.counting.lock().await;
        let (snapshot, numbers) = stages::count(&self.pool).await?;
        self.shared.tally(|tally| tally.looked(snapshot, numbers));
        Ok(())
    }

    /// Begins a transaction under a lease, or not at all when it is no longer held.
    pub(super) async fn begin_held(&self, held: &Held) -> Result<(Tx, StageRow), Trouble> {
        let first = [
            statement!(
                "SELECT * FROM stage WHERE seq = $1 AND kind = $2 AND state = 'leased' AND token = $3 FOR UPDATE",
                held.seq,
                held.kind.0,
                held.token
            ),
            statement!(vault::SEALED),
        ];
        let (tx, found) = Tx::begin(&self.pool, &self.clock, &first).await?;
        let [locked, sealed] = found.as_slice() else { return Err(Trouble::Again) };
        self.vault.must_suit(sealed)?;
        if let Some(row) = locked.first() {
            return Ok((tx, stages::read(row)?));
        }
        tx.give_up();
        Err(Error::LeaseLost(Seq(held.seq)).into())
    }

    /// What names a lease in the tables.
    pub(super) fn held(&self, lease: &Lease) -> Result<Held, Error> {
        let kind = self.sinks.kind(&lease.stage).ok_or(Error::LeaseLost(lease.seq))?;
        Ok(Held { seq: lease.seq.0, kind, token: lease.token.0 })
    }

    /// Ends the leases that were given out here and that nobody has ended: nobody here works on them any more. Then gives the way to
    /// the server up.
    pub(super) async fn close(self: &Arc<Self>) {
        if !self.shared.close() {
            return;
        }
        // The committer ends when the last event that waits for it is answered.
        drop(lock(&self.committer).take());
        let committing = lock(&self.committing).take();
        if let Some(committing) = committing
            && let Err(error) = committing.await
        {
            tracing::error!(code = "store_writer_lost", error = %error, "the inbox's writer could not be waited for");
        }
        if let Err(error) = self.lose_all().await.map_err(Error::from) {
            tracing::warn!(code = "leases_not_ended", error = %chain(&error), "work under way could not be given back; others take it over when its leases expire");
        }
        self.shared.happenings.end();
        self.pool.close();
    }

    async fn lose_all(&self) -> Result<(), Trouble> {
        let given = self.shared.given();
        if given.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = given.iter().map(|(_, seq, _)| *seq).collect();
        let entries = lines::lines_of(&self.pool, &seqs).await?;
        tx::until_done(|| async {
            let (tx, mut board) = lines::load(&self.pool, &self.clock, &entries).await?;
            let now = board.now;
            for (token, seq, kind) in &given {
                if board.get(*seq, *kind).is_some_and(|row| row.progress.is_held_by(*token)) {
                    board.apply(*seq, *kind, |progress| progress.lose(now));
                }
            }
            self.store(tx, board, Default::default(), Touched::default()).await
        })
        .await
    }
}

/// A failure that many are told.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    what: fn(Source) -> Error,
    said: String,
}

impl Failed {
    pub(super) fn new(error: &Error) -> Self {
        let what = match error {
            Error::Away(_) => Error::Away as fn(Source) -> Error,
            Error::Full(_) => |source| Error::Full(Some(source)),
            Error::Seal { .. } => |source: Source| Error::Seal { problem: source.to_string(), source: None },
            _ => Error::Store,
        };
        // The sentence of the error itself is said again by what is made of it.
        let said = match error {
            Error::Seal { problem, .. } => problem.clone(),
            error => std::error::Error::source(error).map_or_else(|| error.to_string(), chain),
        };
        Self { what, said }
    }

    pub(super) fn error(&self) -> Error {
        (self.what)(self.said.clone().into())
    }
}

/// What names a lease in the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    pub(super) token: i64,
}
