//! The way in: HTTPS from the vendor, up to the commit that makes an event durable.
//!
//! ```text
//! listener   accepts sockets, holds their number, drains
//! handshake  one socket: PROXY header, TLS, client certificate
//! connection the same socket from there: HTTP/1 or HTTP/2, deadlines
//! handler    one request: checks, body, parse, commit, answer
//! ```
//!
//! In: sockets of the public address. Out: entries in the inbox, and the answers of the table in `handler`.
//!
//! Promises, held by `tests`:
//! - A 200 leaves after the inbox has synced the event. A caller that hangs up cancels nothing.
//! - Our own trouble is 503 with `Retry-After`; 4xx is said only of what cannot be an event.
//! - No caller holds a socket without using it: handshake, first request, head, body and idleness each have a deadline.
//! - No caller, and no address, takes more than its share of connections, requests and memory.
//! - The caller's address is the socket's, or the one that a configured balancer names; headers never change it.
//! - No body, secret or query is logged, and nothing of a certificate that no authority of ours vouches for; label values
//!   come from closed sets.
//! - Replaced certificates, authorities and revocations hold for everybody within seconds: no session of the old ones is
//!   resumed, and their connections are ended.
//!
//! Not here: what an event is (`event`), how it is stored (`inbox`), what happens next (`work`).
//!
//! Why not `axum::serve`: it sets no timer, so a silent caller would stay for ever, and it cannot be told to announce
//! the end of a connection before it closes it. One path with one method needs no router either.

mod activity;
mod budget;
mod caller;
mod connection;
mod deadlines;
mod descriptors;
mod handler;
mod handshake;
mod identity;
mod ledger;
mod listener;
mod problem;
mod proxy;
mod reason;
mod refusals;
mod shares;
mod slot;
mod socket;
pub mod tls;

pub use listener::{Bound, Drained, bind};

use crate::{
    config::{self, Networks},
    inbox::Inbox,
    metrics::{Metrics, Outcome, Status},
};
use arc_swap::ArcSwap;
use base::clock::Timestamp;
use budget::Budget;
use ledger::Ledger;
use prometheus_client::metrics::counter::Counter;
use refusals::Refusals;
use shares::Shares;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// What every connection and request of the public listener shares.
#[derive(Debug)]
pub struct Receiver {
    path: String,
    /// Read with each request, so that a change holds on open connections too.
    sender: ArcSwap<config::Sender>,
    /// Balancers that name the caller; `None`: callers connect directly.
    proxies: Option<Networks>,
    limits: Limits,
    shares: Arc<Shares>,
    budget: Budget,
    inbox: Arc<dyn Inbox>,
    metrics: Arc<Metrics>,
    /// Read once per socket, so that a reload only swaps it.
    tls: ArcSwap<Generation>,
    /// Number of the newest generation whose connections must end; they watch it.
    retired: watch::Sender<u64>,
    /// Set when the drain begins: HTTP/1 answers then say `Connection: close`.
    draining: AtomicBool,
    refusals: Refusals,
    ledger: Ledger,
    hot: Hot,
}

/// TLS settings and which ones they are.
#[derive(Debug)]
struct Generation {
    /// From 1.
    number: u64,
    loaded: tls::Loaded,
}

/// Bounds on what one caller may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    body: u64,
    head: u32,
    headers: usize,
    http2_streams: u32,
    connections: usize,
    handshakes: usize,
    handshake_timeout: Duration,
    header_timeout: Duration,
    body_timeout: Duration,
    idle_timeout: Duration,
    drain_timeout: Duration,
    /// From the hand-over to the inbox to a 503; the commit itself goes on.
    commit_timeout: Duration,
}

/// Counters of the good case, looked up once instead of with every request.
#[derive(Debug)]
struct Hot {
    ok: Counter,
    accepted: Counter,
    duplicate: Counter,
}

impl Receiver {
    /// Puts the parts together; binds nothing.
    #[must_use]
    pub fn new(
        listener: &config::Listener,
        sender: &config::Sender,
        tls: tls::Loaded,
        inbox: Arc<dyn Inbox>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let outcome = |outcome| metrics.events.get_or_create_owned(&Outcome { outcome });
        let hot = Hot {
            ok: metrics.requests.get_or_create_owned(&Status { status: 200 }),
            accepted: outcome("accepted"),
            duplicate: outcome("duplicate"),
        };
        note_expiries(&metrics, &tls);
        Self {
            path: listener.path.clone(),
            sender: ArcSwap::from_pointee(sender.clone()),
            proxies: listener.proxies.clone(),
            limits: Limits {
                body: listener.max_body,
                head: listener.max_head,
                headers: listener.max_headers,
                http2_streams: listener.http2_streams,
                connections: listener.max_connections,
                handshakes: listener.max_handshakes,
                handshake_timeout: listener.handshake_timeout,
                header_timeout: listener.header_timeout,
                body_timeout: listener.body_timeout,
                idle_timeout: listener.idle_timeout,
                drain_timeout: listener.drain_timeout,
                commit_timeout: handler::COMMIT_TIMEOUT,
            },
            shares: Shares::new(listener.max_connections_per_address),
            budget: Budget::new(listener.max_requests, listener.body_memory),
            inbox,
            metrics,
            tls: ArcSwap::from_pointee(Generation { number: 1, loaded: tls }),
            retired: watch::Sender::new(0),
            draining: AtomicBool::new(false),
            refusals: Refusals::default(),
            ledger: Ledger::default(),
            hot,
        }
    }

    /// Uses other TLS settings for the sockets accepted from now on, and ends the connections of the old ones: answers say
    /// so at once, idle connections are closed a moment later. Sessions of the old ones cannot be resumed, because each
    /// [`tls::Loaded`] has ticket keys of its own.
    pub fn replace_tls(&self, loaded: tls::Loaded) {
        note_expiries(&self.metrics, &loaded);
        self.metrics.client_certificate_expiry.set(0);
        let old = self.tls.load().number;
        self.tls.store(Arc::new(Generation { number: old + 1, loaded }));
        self.retired.send_replace(old);
    }

    /// Goes on with the same TLS settings, but ends the connections and the sessions that began under them so far, so that
    /// every caller is verified anew.
    ///
    /// # Errors
    /// When the system gives no randomness; everything is as before then.
    pub fn renew_tls(&self) -> Result<(), tls::Error> {
        let renewed = self.tls.load().loaded.renewed()?;
        self.replace_tls(renewed);
        Ok(())
    }

    /// Judges requests by other path secrets and networks from now on.
    pub fn replace_sender(&self, sender: config::Sender) {
        self.sender.store(Arc::new(sender));
    }

    /// Whether a connection's settings were replaced.
    fn is_outdated(&self, generation: u64) -> bool {
        self.tls.load().number != generation
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

fn note_expiries(metrics: &Metrics, tls: &tls::Loaded) {
    let seconds = |at: Timestamp| at.as_millis().div_euclid(1000);
    metrics.certificate_expiry.set(seconds(tls.certificate.not_after));
    metrics.revocations_expiry.set(tls.revocations_end().map_or(0, seconds));
}

/// Readers of foreign bytes, for `fuzz/` alone.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// A PROXY header; never longer than the bytes that it was read from.
    pub fn proxy_header(bytes: &[u8]) {
        if let Ok(Some((_, length))) = super::proxy::parse(bytes) {
            assert!(length <= bytes.len(), "the header ends beyond its bytes");
        }
    }

    /// A caller's certificate.
    pub fn certificate(der: &[u8]) {
        super::identity::Certificate::of(der);
    }
}

#[cfg(test)]
mod tests;
