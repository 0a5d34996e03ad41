//! Opening the inbox on a server: keys, sinks, and the tasks that go with an open store.

use super::{
    attach,
    clock::Clock,
    committer,
    connect::Pool,
    listen, schema,
    shared::QUEUE,
    stages,
    store::{Core, Failed, Postgres},
    tx::{self, Trouble, Tx, statement},
    vault,
};
use crate::{
    Access, Error, Settings, SinkName, Stage,
    kind::{Kind, Sinks},
};
use base::{clock::Timestamp, sync::lock};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// As often as this it is looked what other receivers did, whether the server answers, and for work whose wake-up was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Postgres {
    /// Opens an inbox that [`schema::init`] made, and registers the sinks by name. `local` is this receiver's clock.
    pub(crate) async fn open(
        pool: Pool,
        settings: &Settings,
        sinks: &[SinkName],
        access: Access,
        local: fn() -> Timestamp,
    ) -> Result<Self, Error> {
        let found = schema::attach(&pool).await?;
        let attach::Attached { vault, dedup } = attach::attach(&pool, &found, settings, access).await?;
        let keys = found.keys(dedup)?;
        let clock = Clock::new(local);
        let registered = register(&pool, &clock, sinks, access).await?;
        let (committer, requests) = mpsc::channel(QUEUE);
        let core = Arc::new(Core {
            pool,
            clock,
            shared: Arc::default(),
            sinks: registered,
            keys,
            vault,
            turn: tokio::sync::Mutex::default(),
            number: fastrand::u64(..),
            max_waiting: settings.max_waiting,
            refused: settings.refused,
            committer: Mutex::new(Some(committer)),
            committing: Mutex::default(),
            trouble: Mutex::default(),
            counting: tokio::sync::Mutex::default(),
            is_to_be_cleaned: AtomicBool::new(false),
            looked_at: AtomicI64::new(0),
        });
        attach::forget_erased(&core, found.erasures).await?;
        core.count().await?;
        warn_of_left_behind(&core, sinks).await?;
        *lock(&core.committing) = Some(tokio::spawn(committer::run(Arc::downgrade(&core), requests)));
        drop(tokio::spawn(look_after(Arc::downgrade(&core))));
        drop(tokio::spawn(listen::tell(Arc::downgrade(&core))));
        drop(tokio::spawn(listen::listen(Arc::downgrade(&core))));
        Ok(Self(core))
    }
}

/// Says which sinks are not configured any more and have work.
async fn warn_of_left_behind(core: &Core, configured: &[SinkName]) -> Result<(), Trouble> {
    let names = stages::names(&core.pool).await?;
    let numbers = core.shared.tally(|tally| tally.numbers().clone());
    for (kind, numbers) in numbers.into_iter().filter(|(_, numbers)| numbers.unfinished > 0) {
        if let Some(Stage::Deliver(name)) =
            names.get(&kind).filter(|_| core.sinks.0.iter().all(|(known, _)| *known != kind))
            && !configured.contains(name)
        {
            tracing::warn!(
                code = "sink_not_configured",
                sink = name.as_str(),
                entries = numbers.unfinished,
                "a sink with waiting entries is no longer configured: configure it again, give its work to another sink with `inbox move`, or park and purge it with `inbox park --sink`"
            );
        }
    }
    Ok(())
}

/// Looks at the server until the store is closed.
async fn look_after(core: std::sync::Weak<Core>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(core) = core.upgrade().filter(|core| !core.shared.is_closed()) else { return };
        let looked = async {
            core.count().await?;
            let sealed = tx::query(&core.pool, statement!(vault::SEALED)).await?;
            core.vault.must_suit(&sealed)?;
            core.vault.look().await
        };
        match looked.await.map_err(Error::from) {
            Ok(()) => core.note(None),
            Err(error) => core.note(Some(Failed::new(&error))),
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
