//! Waits for the server, and opens the store when it is there.

use super::{beside::Beside, folding, state::Remote};
use crate::{
    Access, Error, Identity, Keys, Settings, SinkName, journal,
    postgres::{
        Postgres,
        connect::{Link, Pool},
    },
    settings::Server,
};
use base::{clock, error::chain, sync::lock};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

/// For a server to be there at the start.
const START_TIME: Duration = Duration::from_secs(5);
/// Between two looks at it afterwards.
const LOOK: Duration = Duration::from_millis(500);

/// Opens an inbox on a server for the service that owns its journal. A server that is away now is waited for in the background.
///
/// # Errors
/// [`Error::Unusable`], [`Error::Open`], [`Error::Seal`], with what to do.
pub(crate) async fn open(server: &Server, settings: &Settings, sinks: &[SinkName]) -> Result<Arc<Remote>, Error> {
    let pool = Pool::new(server, settings)?;
    let folder = settings.journal_folder();
    let known = folder.as_deref().and_then(journal::identity).map(Identity);
    if let Some(identity) = known {
        // What was taken for one inbox is not given to another.
        pool.expect(identity);
    }
    let remote = Arc::new(Remote {
        pool,
        store: watch::Sender::new(None),
        keys: Arc::default(),
        problem: Mutex::default(),
        beside: OnceLock::new(),
        told: Arc::default(),
        knows_pauses: AtomicBool::new(false),
        is_closed: AtomicBool::new(false),
        closing: Notify::new(),
    });
    if let Some(identity) = known {
        remote.open_beside(identity, settings)?;
    }
    match remote.try_open(settings, sinks).await {
        Ok(()) => {}
        Err(Error::Away(problem)) => {
            remote.tell(chain(&*problem));
        }
        Err(error) => return Err(error),
    }
    folding::start(&remote);
    let watcher = (Arc::downgrade(&remote), settings.clone(), sinks.to_vec());
    drop(tokio::spawn(async move {
        let (remote, settings, sinks) = watcher;
        // Whoever opened it has given it up where it cannot be got any more.
        while let Some(remote) = remote.upgrade().filter(|remote| !remote.is_closed.load(Ordering::Acquire)) {
            remote.look(&settings, &sinks).await;
            drop(timeout(LOOK, remote.closing.notified()).await);
        }
    }));
    Ok(remote)
}

impl Remote {
    /// Which inbox it is, once that is known, and how its server is reached.
    pub(crate) fn ways(&self) -> (Arc<OnceLock<Keys>>, Link) {
        (Arc::clone(&self.keys), Link::new(self.pool.clone()))
    }

    fn open_beside(&self, identity: Identity, settings: &Settings) -> Result<(), Error> {
        let Some(folder) = settings.journal_folder() else { return Ok(()) };
        let beside = Beside::open(&folder, identity.0, settings)?;
        self.beside.set(beside).unwrap_or_default();
        Ok(())
    }

    /// Opens the store, where the server is there and has one.
    async fn try_open(&self, settings: &Settings, sinks: &[SinkName]) -> Result<(), Error> {
        let opened = async {
            // An inbox that is not there is no matter of waiting.
            let identity = self.pool.must_have_inbox(START_TIME).await?;
            self.pool.expect(identity);
            if self.beside.get().is_none() {
                self.open_beside(identity, settings)?;
            }
            Postgres::open(self.pool.clone(), settings, sinks, Access::Owner, clock::now).await
        };
        let late = |_elapsed| Error::Away("it did not answer in time".into());
        let store = timeout(2 * START_TIME, opened).await.unwrap_or_else(|elapsed| Err(late(elapsed)))?;
        self.keys.set(store.keys().clone()).unwrap_or_default();
        self.store.send_replace(Some(Arc::new(store)));
        Ok(())
    }

    /// Opens the store, if it is not open; says when the server holds another inbox, and when it is back.
    async fn look(self: &Arc<Self>, settings: &Settings, sinks: &[SinkName]) {
        let had_journal = self.beside.get().is_some();
        if self.opened().is_none() {
            match Box::pin(self.try_open(settings, sinks)).await {
                Ok(()) => {
                    *lock(&self.problem) = None;
                    say_back();
                }
                Err(error) => self.tell(chain(&error)),
            }
            if !had_journal && self.beside.get().is_some() {
                folding::start(self);
            }
        } else if let Some(fault) = self.pool.foreign() {
            self.tell(fault.to_string());
            // Whether the right one is back is known from a new connection alone.
            drop(self.pool.get(LOOK).await);
        } else if lock(&self.problem).take().is_some() {
            say_back();
        }
    }

    /// Says why the server cannot be used, once.
    fn tell(&self, problem: String) {
        let mut known = lock(&self.problem);
        if known.as_ref() != Some(&problem) {
            tracing::error!(
                code = "store_away",
                error = problem,
                "the inbox on PostgreSQL cannot be used now; events are accepted into the journal, where there is one, or answered 503"
            );
            *known = Some(problem);
        }
    }
}

fn say_back() {
    tracing::warn!(code = "store_back", "PostgreSQL answers, and the inbox is open");
}
