//! The open inbox on a server: what every interface needs of it, and the task that looks after it.

use super::{
    clock::Clock,
    committer::{self, Accepting},
    connect::Pool,
    schema,
    shared::{Shared, Touched},
    stages::{self, StageRow},
    tx::{self, Statement, Trouble, Tx, statement},
    vault::Vault,
};
use crate::{
    Access, Error, Keys, Lease, Seq, Settings, SinkName, Stage,
    kind::{Kind, Sinks},
};
use base::{clock::Timestamp, error::chain, sync::lock};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_postgres::Row;

/// As often as this it is looked what other receivers did, whether the server answers, and for work whose wake-up was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    /// Tells this receiver from others; a new one with each opening.
    pub(super) number: u64,
    pub(super) vault: Vault,
    pub(super) max_waiting: u64,
    /// Refused requests that are kept.
    pub(super) refused: u64,
    /// `None` once closed.
    committer: Mutex<Option<mpsc::Sender<Accepting>>>,
    committing: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Why the server takes no events; `None`: it does, as far as is known.
    trouble: Mutex<Option<String>>,
    /// One look at the counts at a time, so that an older one never replaces a newer one.
    counting: tokio::sync::Mutex<()>,
    /// Something was deleted at somebody's wish, and the tables were not cleaned up since.
    pub(super) is_to_be_cleaned: AtomicBool,
    /// The last entry that retention has looked at in its present round.
    pub(super) looked_at: AtomicI64,
}

impl Postgres {
    /// Opens an inbox that [`schema::init`] made, and registers the sinks by name. `local` is this receiver's clock.
    pub(crate) async fn open(
        pool: Pool,
        settings: &Settings,
        sinks: &[SinkName],
        access: Access,
        local: fn() -> Timestamp,
    ) -> Result<Self, Error> {
        if !settings.key.is_empty() {
            // To go on without a seal would be to write bank data in the clear that somebody wants sealed.
            return Err(Error::Seal {
                problem: "an inbox on PostgreSQL cannot be sealed yet: leave inbox.key out, and encrypt the disk of the server".to_owned(),
                source: None,
            });
        }
        let keys = schema::attach(&pool, None).await?;
        let clock = Clock::new(local);
        let registered = register(&pool, &clock, sinks, access).await?;
        let (committer, requests) = mpsc::channel(committer::QUEUE);
        let core = Arc::new(Core {
            pool,
            clock,
            shared: Arc::default(),
            sinks: registered,
            keys,
            number: fastrand::u64(..),
            vault: Vault,
            max_waiting: settings.max_waiting,
            refused: settings.refused,
            committer: Mutex::new(Some(committer)),
            committing: Mutex::default(),
            trouble: Mutex::default(),
            counting: tokio::sync::Mutex::default(),
            is_to_be_cleaned: AtomicBool::new(false),
            looked_at: AtomicI64::new(0),
        });
        core.count().await?;
        core.warn_of_left_behind(sinks).await?;
        *lock(&core.committing) = Some(tokio::spawn(committer::run(Arc::downgrade(&core), requests)));
        drop(tokio::spawn(look_after(Arc::downgrade(&core))));
        Ok(Self(core))
    }

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
        lock(&self.trouble).clone().map_or(Ok(()), |trouble| Err(Error::Store(trouble.into())))
    }

    /// Notes how the last commit or look went.
    pub(super) fn note(&self, trouble: Option<String>) {
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
        let lock = statement!(
            "SELECT * FROM stage WHERE seq = $1 AND kind = $2 AND state = 'leased' AND token = $3 FOR UPDATE",
            held.seq,
            held.kind.0,
            held.token
        );
        let (tx, rows) = Tx::begin_with(&self.pool, &self.clock, lock).await?;
        match rows.first() {
            Some(row) => Ok((tx, stages::read(row)?)),
            None => {
                tx.give_up();
                Err(Error::LeaseLost(Seq(held.seq)).into())
            }
        }
    }

    /// Says which sinks are not configured any more and have work.
    async fn warn_of_left_behind(&self, configured: &[SinkName]) -> Result<(), Trouble> {
        let names = stages::names(&self.pool).await?;
        let numbers = self.shared.tally(|tally| tally.numbers().clone());
        for (kind, numbers) in numbers.into_iter().filter(|(_, numbers)| numbers.unfinished > 0) {
            if let Some(Stage::Deliver(name)) =
                names.get(&kind).filter(|_| self.sinks.0.iter().all(|(known, _)| *known != kind))
                && !configured.contains(name)
            {
                tracing::warn!(
                    code = "sink_not_configured",
                    sink = name.as_str(),
                    entries = numbers.unfinished,
                    "a sink with waiting entries is no longer configured: configure it again, or park or purge its entries with `inbox park --sink`"
                );
            }
        }
        Ok(())
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
        let entries = stages::lines_of(&self.pool, &seqs).await?;
        tx::until_done(|| async {
            let (tx, mut board) = stages::load(&self.pool, &self.clock, &entries).await?;
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

/// What names a lease in the tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) seq: i64,
    pub(super) kind: Kind,
    pub(super) token: i64,
}

/// Looks at the server until the store is closed.
async fn look_after(core: std::sync::Weak<Core>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(core) = core.upgrade().filter(|core| !core.shared.is_closed()) else { return };
        match core.count().await.map_err(Error::from) {
            Ok(()) => core.note(None),
            Err(error) => core.note(Some(chain(&error).to_string())),
        }
        core.shared.wake_all();
    }
}

/// Gives every configured name its number.
async fn register(pool: &Pool, clock: &Clock, names: &[SinkName], access: Access) -> Result<Sinks, Error> {
    let wanted: Vec<String> = names.iter().map(|name| name.as_str().to_owned()).collect();
    if access == Access::Owner && !wanted.is_empty() {
        tx::until_done(|| async {
            let missing = statement!(
                "INSERT INTO sink (name) SELECT name FROM unnest($1::text[]) AS n (name)
                 WHERE NOT EXISTS (SELECT 1 FROM sink WHERE sink.name = n.name)",
                wanted.clone()
            );
            let (tx, _) = Tx::begin_with(pool, clock, missing).await?;
            tx.commit(&[]).await
        })
        .await?;
    }
    let rows = tx::query(pool, statement!("SELECT id, name FROM sink")).await?;
    let mut sinks = Vec::with_capacity(names.len());
    for name in names {
        for row in &rows {
            if row.try_get::<_, &str>("name")? == name.as_str() {
                sinks.push((Kind(row.try_get("id")?), name.clone()));
            }
        }
    }
    Ok(Sinks(sinks))
}
