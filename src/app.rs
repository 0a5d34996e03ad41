//! The service: builds each part once, hands it on, runs, drains.
//!
//! In: a [`Config`]. Out: a [`Running`] service that knows its true addresses, so that commands and tests run the same thing.
//! Everything that can be wrong is found before the first port is bound: certificates, store, sinks, client.
//!
//! Essential tasks (receiver, pools, reload) end only when the process drains; one that ends earlier ends the process.
//!
//! Drain: the receiver stops first and finishes its requests; pools take no new lease, finish what is under way and give
//! the rest back; the inbox is closed when nobody can write to it any more; the admin listener ends last.

mod ending;
mod listeners;
mod operators;
mod own;
mod said;

pub use ending::Ended;
pub use own::Own;

use crate::{
    admin,
    config::Config,
    localhost,
    observe::{
        metrics::{self, Exposition, Latest},
        readiness::Readiness,
        traces::{self, Tracer},
    },
    receive::{self, Receiver, tls},
    reload::{self, Reload, Snapshot, Targets, Watched},
    supervisor::{Sockets, Standing},
    work::{
        self, Attempts, Credentials, Fetcher, Filters, Gate, Handler, Pool, Recovery, Route, Sealing, Source, Upkeep,
    },
};
use delivery::Slot;
use ending::Ending;
use inbox::{Access, Fetch, Inbox, SinkName, Stage, Window, rules::Order};
use linxo::credentials::FingerprintKey;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// `source` of deliveries without a `[linxo]` section: the vendor's production API.
const DEFAULT_SOURCE: &str = "https://api.oxlin.io/v2.1";

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates or keys.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The certificate of a first start.
    #[error("cannot make a certificate for localhost")]
    Localhost(#[from] double::pki::Error),
    /// The store.
    #[error(transparent)]
    Inbox(#[from] inbox::Error),
    /// The way to the collector of traces.
    #[error(transparent)]
    Traces(#[from] traces::BuildError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] delivery::OpenError),
    /// The client of the vendor's API.
    #[error(transparent)]
    Linxo(#[from] linxo::Error),
    /// A port, or a socket that was handed over.
    #[error(transparent)]
    Listener(#[from] listeners::Error),
}

impl Error {
    /// Whether the configuration is at fault, rather than the surroundings: a port that is taken, a folder that is not
    /// writable. Those may mend themselves.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Tls(_)
            | Self::Linxo(_)
            | Self::Traces(_)
            | Self::Inbox(inbox::Error::Seal { .. } | inbox::Error::Unusable { .. }) => true,
            Self::Listener(error) => error.is_configuration(),
            _ => false,
        }
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
    /// How it stands, for a supervisor.
    pub standing: Standing,
    /// The inbox, for tests.
    pub inbox: Inbox,
    /// What came of each attempt at a delivery.
    pub attempts: Attempts,
    /// Asks for the drain.
    stop: CancellationToken,
    sinks: Vec<Arc<Slot>>,
    /// Asks for a reload, and to be told of its end.
    hangup: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// Ends when the service has drained.
    task: JoinHandle<Ended>,
}

/// Starts the service on the addresses of its configuration.
///
/// # Errors
/// [`Error`], before anything was accepted.
pub async fn start(config: Config) -> Result<Running, Error> {
    Box::pin(start_on(config, Sockets::default())).await
}

/// Starts the service on sockets that were handed over; without them, on the addresses of its configuration.
///
/// # Errors
/// [`Error`], before anything was accepted.
pub async fn start_on(config: Config, sockets: Sockets) -> Result<Running, Error> {
    start_with(config, sockets, Own::default()).await
}

/// [`start_on`], with sinks that this program brings.
///
/// # Errors
/// [`Error`], before anything was accepted.
pub async fn start_with(config: Config, sockets: Sockets, own: Own) -> Result<Running, Error> {
    said::at_first(&config, &sockets);
    said::of_a_first_start(&config, localhost::generate(&config.tls)?);
    let (used, loaded) = (Snapshot::new(config.clone()), tls::load(&config.tls)?);
    let watched = Watched::new(used, &loaded);
    loaded.log();

    let mut registry = metrics::registry();
    let last_event = Latest::default();
    let (tracer, last_spans) = traces::start(config.traces.as_ref(), &mut registry)?;
    let sinks = own.slots(&config.sinks)?;
    let names: Vec<SinkName> = sinks.iter().map(|slot| slot.name().clone()).collect();
    let inbox = Box::pin(inbox::connect(&config.inbox, &names, Access::Owner)).await?;
    let keys = Arc::clone(&inbox.keys);
    let key = FingerprintKey::later(move || keys.get().map(|keys| keys.fingerprints));
    let source = Arc::new(Source::new(config.linxo.as_ref(), key, linxo::Figures::new(&mut registry))?);
    said::of_what_holds(&config);

    let (bound, admin) = listeners::bind(&config, sockets).await?;
    let stop = CancellationToken::new();
    let (readiness, (hangup, asked)) = (Readiness::new(stop.clone()), mpsc::unbounded_channel());
    let (address, admin_address) = (bound.address(), admin.as_ref().map(admin::Bound::address));
    let figures = receive::Figures::new(&mut registry, last_event.clone());
    let receiver = receiver(&config, loaded, &inbox, figures, tracer.clone());
    let targets = Targets {
        receiver: Arc::clone(&receiver),
        sinks: sinks.clone(),
        source: Arc::clone(&source),
        link: inbox.link.clone(),
        admin: admin.as_ref().map(admin::Bound::access),
    };
    let reload = Reload::new(watched, targets, reload::Figures::new(&mut registry));

    let deliveries = work::DeliveryFigures::new(&mut registry);
    let orders: Vec<_> = config.sinks.iter().map(|sink| (sink.name.clone(), Order::of(sink.is_strict))).collect();
    let gates = gates(&inbox, &orders, &deliveries).await?;
    let orders = work::tell_orders(&*inbox.sinks, orders).await;
    let (mut tasks, attempts) = (JoinSet::new(), Attempts::default());
    start_work(
        &mut tasks,
        &Parts {
            config: &config,
            inbox: &inbox,
            source: &source,
            sinks: &sinks,
            gates: &gates,
            orders: &orders,
            attempts: &attempts,
            tracer: &tracer,
        },
        &deliveries,
        &mut registry,
        &stop,
    );
    let neighbours = (gates.clone(), Arc::clone(&source));
    let reached = (gates, operators::held(&config, address, admin_address), source, source_of(&config).to_owned());
    let control = operators::control(&config, &inbox, &sinks, reached);
    let service = control.service.clone();
    tasks.spawn(operators::serve(&config, control.clone(), stop.clone()));
    tasks.spawn(reload.run(asked, stop.clone()));
    let figures =
        (inbox::Figures::new(&mut registry, (&config.inbox).into()), work::checkpoint_failures(&mut registry));
    let upkeep = upkeep(&config, &inbox, figures.clone(), last_event, neighbours);
    start_upkeep(&mut tasks, upkeep, &inbox, &stop);
    let admin_figures = admin::Figures::new(&mut registry);
    let exposition = Arc::new(Exposition::new(registry));
    tasks.spawn(operators::record(&inbox, &exposition, &control, stop.clone()));
    let state = admin::State {
        intake: Arc::clone(&inbox.intake),
        upkeep: Arc::clone(&inbox.upkeep),
        inbox: figures.0,
        exposition: Arc::clone(&exposition),
        figures: admin_figures,
        readiness: readiness.clone(),
        hindrance: hindrance(&receiver),
        desk: admin.as_ref().map(|admin| operators::desk(&inbox, control, &receiver, admin.access())),
    };
    said::of_the_admin_listener(admin_address);
    let standing = standing(&bound, &state);
    tasks.spawn(admin::report(Arc::clone(&inbox.receivers), service, Arc::clone(&standing.obstacles), stop.clone()));
    let ending = Ending {
        receiver: tokio::spawn(serve(bound, receiver, stop.clone())),
        tasks,
        admin: admin.map(|bound| (bound, state)),
        inbox: inbox.clone(),
        traces: last_spans,
        stop: stop.clone(),
        grace: config.listener.drain_timeout,
    };
    readiness.set_ready();
    Ok(Running {
        address,
        admin: admin_address,
        metrics: exposition,
        standing,
        inbox,
        attempts,
        stop,
        sinks,
        hangup,
        task: tokio::spawn(ending.run()),
    })
}

fn receiver(
    config: &Config,
    loaded: tls::Loaded,
    inbox: &Inbox,
    figures: receive::Figures,
    tracer: Tracer,
) -> Arc<Receiver> {
    let intake = Arc::clone(&inbox.intake);
    Arc::new(Receiver::new(&config.listener, &config.sender, loaded, intake, figures, tracer))
}

/// Takes events until the drain is over.
async fn serve(bound: receive::Bound, receiver: Arc<Receiver>, stop: CancellationToken) {
    bound.serve(receiver, stop).await;
}

fn start_upkeep(tasks: &mut JoinSet<()>, upkeep: Upkeep, inbox: &Inbox, stop: &CancellationToken) {
    tasks.spawn(upkeep.run(stop.clone()));
    tasks.spawn(Sealing { inbox: Arc::clone(&inbox.upkeep) }.run(stop.clone()));
}

fn standing(bound: &receive::Bound, state: &admin::State) -> Standing {
    let state = state.clone();
    Standing { address: bound.address(), obstacles: Arc::new(move || state.obstacles()), pulse: bound.pulse() }
}

fn hindrance(receiver: &Arc<Receiver>) -> admin::Hindrance {
    let receiver = Arc::clone(receiver);
    admin::Hindrance::new(move || receiver.hindrance())
}

impl Running {
    /// Begins the drain; [`ended`](Self::ended) resolves when it is over.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// Reads certificates, authorities, revocations and secrets again, and opens the files of sinks again by name, after a log
    /// rotation. Begins at once; the future resolves when all of it is done, and may be dropped.
    pub fn reload(&self) -> impl Future<Output = ()> + Send + use<> {
        let (done, is_done) = oneshot::channel();
        // While it drains there is nobody who reads.
        self.hangup.send(done).unwrap_or_default();
        let sinks = self.sinks.clone();
        let reopened = tokio::spawn(async move {
            for slot in sinks {
                match slot.reopen().await {
                    Ok(()) => tracing::info!(code = "sink_reopened", sink = %slot.name(), "sink opened again"),
                    Err(failure) => {
                        tracing::error!(code = "sink_not_reopened", sink = %slot.name(), error = failure.reason, "sink could not be opened again");
                    }
                }
            }
        });
        async move {
            // Either ends without a word when the service does.
            drop((is_done.await, reopened.await));
        }
    }

    /// Resolves when the service has ended.
    ///
    /// # Cancel safety
    /// May be polled again after it was dropped.
    pub async fn ended(&mut self) -> Ended {
        (&mut self.task).await.unwrap_or(Ended::Early)
    }
}

/// `source` of deliveries: the base of the vendor's API.
#[must_use]
pub fn source_of(config: &Config) -> &str {
    config.linxo.as_ref().map_or(DEFAULT_SOURCE, |linxo| &linxo.api)
}

/// The gates before these sinks, closed where an operator paused the sink: a pause outlives a restart.
async fn gates(
    inbox: &Inbox,
    sinks: &[(SinkName, Order)],
    figures: &work::DeliveryFigures,
) -> Result<Vec<Arc<Gate>>, inbox::Error> {
    let paused = inbox.sinks.paused().await?;
    let gates = sinks.iter().map(|(name, order)| {
        let (since, figures) = (paused.get(name).copied(), figures.of_sink(name.as_str()));
        let gate = Gate::new(name.clone(), *order, figures);
        gate.set_paused(since);
        Arc::new(gate)
    });
    Ok(gates.collect())
}

/// What looks after the inbox.
fn upkeep(
    config: &Config,
    inbox: &Inbox,
    (figures, checkpoint_failures): (inbox::Figures, Counter),
    last_event: Latest,
    (gates, source): (Vec<Arc<Gate>>, Arc<Source>),
) -> Upkeep {
    Upkeep {
        inbox: Arc::clone(&inbox.upkeep),
        audit: Arc::clone(&inbox.audit),
        retention: config.inbox.retention,
        audit_retention: config.inbox.audit_retention,
        figures,
        checkpoint_failures,
        last_event,
        gates,
        source,
    }
}

/// What the work loops are made of.
struct Parts<'a> {
    config: &'a Config,
    inbox: &'a Inbox,
    source: &'a Arc<Source>,
    sinks: &'a [Arc<Slot>],
    /// In the order of the sinks.
    gates: &'a [Arc<Gate>],
    /// What the inbox does not know yet.
    orders: &'a [(SinkName, Order)],
    attempts: &'a Attempts,
    tracer: &'a Tracer,
}

/// Starts a pool for each stage, and the watch over credentials.
fn start_work(
    tasks: &mut JoinSet<()>,
    parts: &Parts<'_>,
    deliveries: &work::DeliveryFigures,
    registry: &mut Registry,
    stop: &CancellationToken,
) {
    let (pools, fetches) = (work::PoolFigures::new(registry), work::FetchFigures::new(registry));
    let Parts { config, inbox, source, sinks, gates, orders, attempts, tracer } = parts;
    if config.worker.concurrency == 0 {
        tracing::warn!(
            code = "no_workers",
            "worker.concurrency is 0: events are taken and kept, nothing is completed or delivered"
        );
        return;
    }
    let credentials = Arc::new(Credentials::new(Arc::clone(&inbox.queue), Arc::clone(source)));
    let filters = Filters::new(config.sinks.iter().map(|sink| sink.filter.clone()));
    let mut handlers: Vec<(Stage, usize, Arc<dyn Handler>)> = Vec::new();
    for fetch in Fetch::ALL {
        let handler = Fetcher {
            fetch,
            source: Arc::clone(source),
            readings: Arc::clone(&inbox.readings),
            shelf: Arc::clone(&inbox.shelf),
            credentials: Arc::clone(&credentials),
            filters: filters.clone(),
            figures: fetches.clone(),
            tracer: Tracer::clone(tracer),
            crowd: Notify::new(),
        };
        handlers.push((Stage::Fetch(fetch), config.worker.concurrency, Arc::new(handler)));
    }
    let mut recovering = Vec::new();
    for ((slot, gate), settings) in sinks.iter().zip(*gates).zip(&config.sinks) {
        recovering.push((Arc::clone(gate), settings.resumes));
        let hands = settings.concurrency.unwrap_or(config.worker.concurrency);
        let route = Route {
            slot: Arc::clone(slot),
            gate: Arc::clone(gate),
            hands,
            retry_for: settings.retry_for,
            retry_first: settings.retry_first,
            retry_longest: settings.retry_longest,
            resumes: settings.resumes,
            drops_stale: settings.drops_stale,
            filter: settings.filter.clone(),
            merging: settings.merge.as_ref().map(|merge| {
                work::merging(Window { quiet: merge.quiet, longest: merge.longest }, settings.filter.clone())
            }),
            source: source_of(config).to_owned(),
            shelf: Arc::clone(&inbox.shelf),
            figures: deliveries.clone(),
            attempts: Attempts::clone(attempts),
            tracer: Tracer::clone(tracer),
            kind: settings.kind.word(),
        };
        handlers.push((Stage::Deliver(slot.name().clone()), hands, Arc::new(route)));
    }
    for (stage, concurrency, handler) in handlers {
        let pool = Pool { stage, concurrency, queue: Arc::clone(&inbox.queue), handler, figures: pools.clone() };
        tasks.spawn(pool.run(stop.clone(), config.listener.drain_timeout));
    }
    tasks.spawn(credentials.watch(stop.clone()));
    let recovery = Recovery { sinks: Arc::clone(&inbox.sinks), gates: recovering, orders: orders.to_vec() };
    tasks.spawn(recovery.run(stop.clone()));
}
