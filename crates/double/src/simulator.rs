//! A running double, and what can be changed and seen while it runs.

use crate::{
    accounts::{Connection, World},
    player::Player,
    script::Script,
    serve::{accept, acceptor},
    settings::Settings,
    state::{Counters, Request, Shared},
};
use base::sync::lock;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};

/// A running double; it stops when this value is dropped.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Simulator {
    /// Binds and serves until stopped.
    ///
    /// # Errors
    /// The address cannot be bound, or the identity is not one that TLS can use ([`io::ErrorKind::InvalidInput`]).
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let acceptor = settings.identity.as_ref().map(|identity| acceptor(identity, settings.http2)).transpose()?;
        let listener = TcpListener::bind(settings.address).await?;
        let address = listener.local_addr()?;
        // A certificate names localhost; without one the address itself is safest, as localhost may mean IPv6 first.
        let origin = match (&acceptor, address.ip().is_unspecified()) {
            (Some(_), _) => format!("https://localhost:{}", address.port()),
            (None, true) => format!("http://localhost:{}", address.port()),
            (None, false) => format!("http://{address}"),
        };
        let shared = Arc::new(Shared {
            origin,
            address,
            world: Mutex::new(World::new(&settings.connections)),
            tokens: Mutex::default(),
            player: Mutex::new(Player::new(settings.script.clone())),
            first_asked: Mutex::default(),
            journal: Mutex::default(),
            follow: broadcast::channel(1024).0,
            requests: AtomicU64::new(0),
            faulted: AtomicU64::new(0),
            sockets: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            peak_in_flight: AtomicU64::new(0),
            settings,
        });
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { shared, accepting })
    }

    /// Address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// `linxo.api` of a configuration that points here.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}{}", self.shared.origin, self.shared.api_path())
    }

    /// `linxo.auth` of a configuration that points here.
    #[must_use]
    pub fn auth_url(&self) -> String {
        self.shared.origin.clone()
    }

    /// Replaces the script; counts of rules begin anew.
    pub fn script(&self, script: Script) {
        *self.shared.player() = Player::new(script);
        lock(&self.shared.first_asked).clear();
    }

    /// Adds a connection, or replaces it, with its accounts as they are at the start.
    pub fn put_connection(&self, connection: &Connection) {
        self.shared.world().put(connection);
    }

    /// Takes a connection away: 404 from now on.
    pub fn remove_connection(&self, connection: &str) {
        self.shared.world().remove(connection);
    }

    /// Adds and takes away accounts of a connection at random places.
    pub fn change_accounts(&self, connection: &str, insert: u32, remove: u32, seed: u64) {
        self.shared.world().change(Some(connection), insert, remove, &mut fastrand::Rng::with_seed(seed));
    }

    /// Ids of the accounts that a connection has now, in the order of its listing.
    #[must_use]
    pub fn accounts(&self, connection: &str) -> Vec<String> {
        self.shared.world().ids(connection)
    }

    /// Ids of the accounts that existed from the start until now, whatever else came and went.
    #[must_use]
    pub fn accounts_throughout(&self, connection: &str) -> Vec<String> {
        self.shared.world().ids_throughout(connection)
    }

    /// Ends every token that was given out.
    pub fn expire_tokens(&self) {
        self.shared.tokens().forget_all();
    }

    /// The journal, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.journal).iter().cloned().collect()
    }

    /// Empties the journal.
    pub fn forget_requests(&self) {
        lock(&self.shared.journal).clear();
    }

    /// Every request from now on, as it is answered; a slow reader misses some.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Request> {
        self.shared.follow.subscribe()
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.shared.requests.load(Ordering::Relaxed),
            faulted: self.shared.faulted.load(Ordering::Relaxed),
            tokens: self.shared.tokens().issued(),
            peak_in_flight: self.shared.peak_in_flight.load(Ordering::Relaxed),
            sockets: self.shared.sockets.load(Ordering::Relaxed),
        }
    }

    /// Stops listening and drops every connection; the port is free when this returns.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // The only way in which this task ends is the abort.
        (&mut self.accepting).await.unwrap_or_default();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
