//! What all sockets of one double share: the bank, the tokens, the script being played, and the journal of what was asked.

use crate::{accounts::World, faults::Endpoint, player::Player, settings::Settings, token::Tokens, wire::ApiVersion};
use base::sync::lock;
use serde::Serialize;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// One request that the double got; never the value of a header, nor a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query, without `?`.
    pub query: String,
    /// `page`, if there was one.
    pub page: Option<u64>,
    /// The connection that the filter or the path names.
    pub connection: Option<String>,
    /// The user on whose behalf the caller asks.
    pub user: Option<String>,
    /// Names of the headers that came, sorted.
    pub headers: Vec<String>,
    /// Status of the answer; `None`: the connection was dropped.
    pub status: Option<u16>,
    /// Faults that were played.
    pub faults: Vec<&'static str>,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests answered or dropped.
    pub requests: u64,
    /// Requests on which at least one fault was played.
    pub faulted: u64,
    /// Tokens given out.
    pub tokens: u64,
    /// Most requests that were open at once.
    pub peak_in_flight: u64,
    /// Connections accepted.
    pub sockets: u64,
}

/// What all connections of one double share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) address: SocketAddr,
    /// Scheme, host and port.
    pub(crate) origin: String,
    pub(crate) world: Mutex<World>,
    pub(crate) tokens: Mutex<Tokens>,
    pub(crate) player: Mutex<Player>,
    /// When each connection was first asked for under a fault that counts from then on.
    pub(crate) first_asked: Mutex<HashMap<String, Instant>>,
    pub(crate) journal: Mutex<VecDeque<Request>>,
    pub(crate) follow: broadcast::Sender<Request>,
    pub(crate) requests: AtomicU64,
    pub(crate) faulted: AtomicU64,
    pub(crate) sockets: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) peak_in_flight: AtomicU64,
}

impl Shared {
    pub(crate) fn api_path(&self) -> &'static str {
        match self.settings.version {
            ApiVersion::V2_1 => "/v2.1",
            ApiVersion::V3 => "/v3",
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    pub(crate) fn player(&self) -> MutexGuard<'_, Player> {
        lock(&self.player)
    }

    /// How long ago a connection was first asked for so.
    pub(crate) fn since_first_asked(&self, connection: &str) -> Duration {
        lock(&self.first_asked).entry(connection.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    pub(crate) fn record(&self, request: Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !request.faults.is_empty() {
            self.faulted.fetch_add(1, Ordering::Relaxed);
        }
        if self.follow.receiver_count() > 0 {
            // Fails only when the last reader has just left.
            self.follow.send(request.clone()).unwrap_or_default();
        }
        let mut journal = lock(&self.journal);
        while journal.len() >= self.settings.journal.max(1) {
            journal.pop_front();
        }
        journal.push_back(request);
    }
}
