//! The service: builds each part once, hands it on, runs, drains.
//!
//! In: a [`Config`]. Out: a [`Running`] service that knows its true addresses, so that commands and tests run the same thing.
//! Everything that can be wrong is found before the first port is bound: certificates, store, sinks, client.
//!
//! Essential tasks (receiver, admin, stages) end only when the process drains; one that ends earlier ends the process.
//!
//! Drain: the receiver stops first and finishes its requests; stages take no new lease, finish what is under way and give
//! the rest back; the inbox is closed when nobody can write to it any more; the admin listener ends last.

use crate::{
    admin,
    config::Config,
    inbox::{self, Access, Inbox, Stage},
    linxo,
    metrics::{Metrics, StageState},
    observe::{
        metrics::{self as exposed, Exposition},
        readiness::Readiness,
    },
    receive::{self, Receiver, tls},
    reload::{self, Reload, Snapshot, Watched},
    sink::{self, Sink},
    work::{Completer, Handler, Route, StageLoop},
};
use base::{clock, error::chain};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_util::sync::CancellationToken;

/// `source` of deliveries without a `[linxo]` section: the vendor's production API.
const DEFAULT_SOURCE: &str = "https://api.oxlin.io/v2.1";
/// Between two looks at retention and the figures.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Entries deleted at once, so that accepting is never held up for long.
const EXPIRE_BATCH: usize = 500;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The store.
    #[error(transparent)]
    Inbox(#[from] inbox::Error),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] sink::OpenError),
    /// The client of the vendor's API.
    #[error(transparent)]
    Linxo(#[from] linxo::Error),
    /// A port.
    #[error("cannot bind {key} = {address}: choose another address, or stop what uses it")]
    Bind {
        /// Configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the configuration is at fault, rather than the surroundings.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Linxo(_))
    }
}

/// A running service.
pub struct Running {
    /// Where events are taken.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub admin: Option<SocketAddr>,
    /// The figures.
    pub metrics: Arc<Exposition>,
    /// The inbox, for tests.
    pub inbox: Arc<dyn Inbox>,
    /// Asks for the drain.
    stop: CancellationToken,
    sinks: Vec<(String, Arc<dyn Sink>)>,
    /// Asks for a reload.
    hangup: Arc<Notify>,
    /// Ends when the service has drained; false when a part ended before it should.
    task: JoinHandle<bool>,
}

/// Starts the service.
///
/// # Errors
/// [`Error`], before anything was accepted.
pub async fn start(config: Config) -> Result<Running, Error> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if tls::generate_localhost(&config.tls)? {
        tracing::warn!(
            certificate = %config.tls.certificate.display(),
            "made a certificate for localhost, because there was none: no vendor trusts it, give the service a real one"
        );
    }
    let used = Snapshot::new(config.clone());
    let loaded = tls::load(&config.tls)?;
    let watched = Watched::new(used, &loaded);
    loaded.log();
    tracing::info!(authentication = config.authentication(), "how callers are authenticated");

    let mut registry = exposed::registry();
    let metrics = Arc::new(Metrics::registered(&mut registry));
    let receive_figures = receive::Figures::new(&mut registry);
    let reload_figures = reload::Figures::new(&mut registry);
    let admin_figures = admin::Figures::new(&mut registry);
    let exposition = Arc::new(Exposition::new(registry));
    let client = config.linxo.clone().map(|linxo| linxo::Client::new(linxo, Arc::clone(&metrics))).transpose()?;
    if client.is_none() {
        tracing::warn!("there is no [linxo] section: events that leave out their accounts are parked");
    }
    let sinks: Vec<(String, Arc<dyn Sink>)> = config
        .sinks
        .iter()
        .map(|config| Ok((config.name.clone(), sink::open(config)?)))
        .collect::<Result<_, sink::OpenError>>()?;
    let names: Vec<String> = sinks.iter().map(|(name, _)| name.clone()).collect();
    let inbox = inbox::open(&config.inbox, &names, Access::Owner)?;

    let bound = receive::bind(&config.listener).await.map_err(|source| Error::Bind {
        key: "listener.address",
        address: config.listener.address,
        source,
    })?;
    let admin = match &config.admin {
        None => None,
        Some(admin) => Some(admin::bind(admin).await.map_err(|source| Error::Bind {
            key: "admin.address",
            address: admin.address,
            source,
        })?),
    };
    let stop = CancellationToken::new();
    let readiness = Readiness::new(stop.clone());
    let receiver =
        Arc::new(Receiver::new(&config.listener, &config.sender, loaded, Arc::clone(&inbox), receive_figures));
    let hangup = Arc::new(Notify::new());
    let (address, admin_address) = (bound.address(), admin.as_ref().map(admin::Bound::address));

    let mut stages = JoinSet::new();
    let completer = if config.worker.concurrency == 0 {
        tracing::warn!("worker.concurrency is 0: events are taken and kept, nothing is completed or delivered");
        None
    } else {
        let completer = Arc::new(Completer::new(client, Arc::clone(&inbox), Arc::clone(&metrics)));
        for stage in stage_loops(&config, Arc::clone(&completer), &sinks, &inbox, &metrics) {
            stages.spawn(stage.run(stop.clone(), config.listener.drain_timeout));
        }
        stages.spawn(Arc::clone(&completer).watch(stop.clone()));
        Some(completer)
    };
    let access = admin.as_ref().map(admin::Bound::access);
    let reload = Reload::new(
        watched,
        Arc::clone(&receiver),
        sinks.clone(),
        completer,
        access,
        reload_figures,
        Arc::clone(&metrics),
    );
    stages.spawn(housekeeping(Arc::clone(&inbox), Arc::clone(&metrics), config.inbox.retention, stop.clone()));
    stages.spawn(reload.run(Arc::clone(&hangup), stop.clone()));
    if let Some(admin) = &admin {
        tracing::info!(address = %admin.address(), "admin listening");
    }
    let told = stop.clone();
    let state = admin::State {
        inbox: Arc::clone(&inbox),
        exposition: Arc::clone(&exposition),
        metrics,
        figures: admin_figures,
        readiness: readiness.clone(),
    };
    let parts = Parts {
        receiver: tokio::spawn(async move {
            bound.serve(receiver, told).await;
        }),
        stages,
        admin: admin.map(|bound| (bound, state)),
        inbox: Arc::clone(&inbox),
        stop: stop.clone(),
    };
    let task = tokio::spawn(parts.run());
    readiness.set_ready();
    Ok(Running { address, admin: admin_address, metrics: exposition, inbox, stop, sinks, hangup, task })
}

impl Running {
    /// Begins the drain; [`ended`](Self::ended) resolves when it is over.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// Reads certificates, authorities, revocations and secrets again; what has changed is in use a moment later.
    pub fn reload(&self) {
        self.hangup.notify_one();
    }

    /// Opens files again by name, after a log rotation.
    pub async fn reopen(&self) {
        for (name, sink) in &self.sinks {
            match sink.reopen().await {
                Ok(()) => tracing::info!(sink = name, "sink opened again"),
                Err(failure) => {
                    tracing::error!(sink = name, reason = failure.reason, "sink could not be opened again");
                }
            }
        }
    }

    /// Resolves when the service has ended; false when a part ended before it should.
    ///
    /// # Cancel safety
    /// May be polled again after it was dropped.
    pub async fn ended(&mut self) -> bool {
        (&mut self.task).await.unwrap_or(false)
    }
}

/// What runs, and what has to be ended in order.
struct Parts {
    receiver: JoinHandle<()>,
    stages: JoinSet<()>,
    admin: Option<(admin::Bound, admin::State)>,
    inbox: Arc<dyn Inbox>,
    stop: CancellationToken,
}

impl Parts {
    async fn run(mut self) -> bool {
        // The admin listener ends by a token of its own, because it still answers during the drain.
        let stopped = CancellationToken::new();
        let admin = self.admin.take().map(|(bound, state)| tokio::spawn(bound.serve(state, stopped.clone())));
        let healthy = tokio::select! {
            () = self.stop.cancelled() => true,
            _ = &mut self.receiver => false,
            _ = self.stages.join_next() => false,
        };
        if !healthy && !self.stop.is_cancelled() {
            tracing::error!(
                "a part of the service ended before it should; the process ends, so that it is started afresh"
            );
        }
        let healthy = healthy || self.stop.is_cancelled();
        self.stop.cancel();
        if !self.receiver.is_finished()
            && let Err(error) = (&mut self.receiver).await
        {
            tracing::error!(error = %error, "the receiver ended abruptly");
        }
        while let Some(ended) = self.stages.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "a stage ended abruptly");
            }
        }
        self.inbox.close().await;
        stopped.cancel();
        if let Some(admin) = admin
            && let Err(error) = admin.await
        {
            tracing::error!(error = %error, "the admin listener ended abruptly");
        }
        tracing::info!("drained; nothing is left open");
        healthy
    }
}

fn stage_loops(
    config: &Config,
    completer: Arc<Completer>,
    sinks: &[(String, Arc<dyn Sink>)],
    inbox: &Arc<dyn Inbox>,
    metrics: &Arc<Metrics>,
) -> Vec<StageLoop> {
    let stage_loop = |stage: Stage, name: &str, handler: Arc<dyn Handler>| StageLoop {
        stage,
        name: name.to_owned(),
        concurrency: config.worker.concurrency,
        inbox: Arc::clone(inbox),
        handler,
        metrics: Arc::clone(metrics),
    };
    let source = config.linxo.as_ref().map_or(DEFAULT_SOURCE, |linxo| &linxo.api);
    let mut loops = vec![stage_loop(Stage::Completion, "completion", completer)];
    for ((name, sink), settings) in sinks.iter().zip(&config.sinks) {
        let Some(stage) = inbox.sink(name) else { continue };
        let route = Route {
            name: name.clone(),
            sink: Arc::clone(sink),
            retry_for: settings.retry_for,
            source: source.to_owned(),
            inbox: Arc::clone(inbox),
            metrics: Arc::clone(metrics),
        };
        loops.push(stage_loop(stage, name, Arc::new(route)));
    }
    loops
}

/// Deletes done entries after their time and keeps the figures right.
async fn housekeeping(inbox: Arc<dyn Inbox>, metrics: Arc<Metrics>, retention: Duration, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy(&*inbox, &metrics, retention).await {
            tracing::warn!(error = %chain(&error), "housekeeping of the inbox failed; it is tried again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(HOUSEKEEPING) => {}
        }
    }
}

async fn tidy(inbox: &dyn Inbox, metrics: &Metrics, retention: Duration) -> Result<(), inbox::Error> {
    let cutoff = clock::now().before(retention);
    loop {
        let deleted = inbox.expire(cutoff, EXPIRE_BATCH).await?;
        if deleted == 0 {
            break;
        }
        tracing::debug!(entries = deleted, "done entries were deleted after inbox.retention");
    }
    let stats = inbox.stats().await?;
    for (stage, counts) in &stats.stages {
        for (state, count) in [("waiting", counts.waiting), ("leased", counts.leased), ("parked", counts.parked)] {
            metrics
                .inbox_entries
                .get_or_create(&StageState { stage: stage.to_string(), state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    Ok(())
}
