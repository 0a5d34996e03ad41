//! The way in: HTTPS from the vendor, up to the commit that makes an event durable.
//!
//! ```text
//! listener   accepts sockets, holds their number, drains
//! handshake  one socket: PROXY header, TLS, client certificate
//! connection the same socket from there: HTTP/1 or HTTP/2, deadlines
//! app        one request: the axum application, with routes, layers, extractors, handler
//! intake     the inbox, as the receiver uses it
//! ```
//!
//! In: sockets of the public address. Out: entries in the inbox, and the answers of the table in `app`.
//!
//! Promises, held by `tests`:
//! - A 200 leaves after the inbox has synced the event. A caller that hangs up cancels nothing.
//! - Our own trouble is 503 with `Retry-After`; 4xx is said only of what cannot be an event.
//! - No caller holds a socket without using it: handshake, first request, head, body and idleness each have a deadline.
//! - No caller, and no address, takes more than its share of connections, handshakes, requests and memory.
//! - The caller's address is the socket's, or the one that a configured balancer names; headers never change it.
//! - No body, secret or query is logged, and nothing of a certificate that no authority of ours vouches for; label values
//!   come from closed sets.
//! - Replaced certificates, authorities and revocations hold for everybody within seconds: no session of the old ones is
//!   resumed, no request of an old connection is taken, and their connections are ended. A connection also ends with the
//!   client certificate that it began with.
//!
//! Not here: what an event is (`event`), how it is stored (`inbox`), what happens next (`work`).
//!
//! Why not `axum::serve`: it sets no timer, so a silent caller would stay for ever, and it cannot be told to announce
//! the end of a connection before it closes it (decision 0004). So sockets are served by a loop of our own, and only their
//! requests go to axum.

mod activity;
mod app;
mod budget;
mod caller;
mod connection;
mod deadlines;
mod descriptors;
mod drain;
mod endings;
mod figures;
mod handshake;
mod heads;
mod identity;
mod intake;
mod ledger;
mod listener;
mod lobby;
mod origin;
mod problem;
mod proxy;
mod reason;
mod refusals;
pub mod settings;
mod shares;
mod slot;
mod socket;
pub mod tls;
mod trust;

pub use figures::Figures;
pub use listener::{Bound, Drained, bind};

use app::{Answering, Bodies, COMMIT_TIMEOUT, Commits, Webhook};
use arc_swap::ArcSwap;
use budget::Budget;
use connection::Connections;
use drain::Drain;
use handshake::Entrance;
use intake::Intake;
use lobby::Lobby;
use prometheus_client::metrics::gauge::Gauge;
use refusals::Refusals;
use shares::Shares;
use socket::Rest;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use trust::Trust;

/// The public listener without its socket: what a reload changes, and what [`Bound::serve`] divides among its parts.
#[derive(Debug)]
pub struct Receiver {
    path: String,
    sender: Arc<ArcSwap<settings::Sender>>,
    trust: Arc<Trust>,
    sockets: Sockets,
    /// Counts open sockets.
    open: Gauge,
    connections: Arc<Connections>,
    drain: Arc<Drain>,
    refusals: Arc<Refusals>,
    intake: Intake,
}

/// Handshakes that an address may have under way: the same share as of the connections.
fn handshakes_of_an_address(listener: &settings::Listener) -> usize {
    let share = listener.max_handshakes.saturating_mul(listener.max_connections_per_address) / listener.max_connections;
    share.clamp(1, listener.max_handshakes)
}

/// Bounds on all sockets together.
#[derive(Clone, Copy, Debug)]
struct Sockets {
    connections: usize,
    drain_timeout: Duration,
}

impl Receiver {
    /// Puts the parts together; binds nothing.
    #[must_use]
    pub fn new(
        listener: &settings::Listener,
        sender: &settings::Sender,
        tls: tls::Loaded,
        inbox: Arc<dyn inbox::Intake>,
        figures: Figures,
    ) -> Self {
        Self::with_commit_timeout(listener, sender, tls, Intake::new(inbox), figures, COMMIT_TIMEOUT)
    }

    fn with_commit_timeout(
        listener: &settings::Listener,
        sender: &settings::Sender,
        tls: tls::Loaded,
        intake: Intake,
        figures: Figures,
        commit_timeout: Duration,
    ) -> Self {
        let sender = Arc::new(ArcSwap::from_pointee(sender.clone()));
        let trust = Arc::new(Trust::new(tls, figures.certificates));
        let refusals = Arc::new(Refusals::new(figures.refused, figures.answers));
        let drain = Arc::new(Drain::new());
        let budget = Arc::new(Budget::new(listener.max_requests, listener.body_memory));
        let webhook = Webhook {
            path: listener.path.clone(),
            bodies: Bodies { limit: listener.max_body, timeout: listener.body_timeout, budget: Arc::clone(&budget) },
            commits: Commits {
                intake: intake.clone(),
                timeout: commit_timeout,
                figures: figures.events,
                refusals: Arc::clone(&refusals),
            },
        };
        let answering = Answering {
            sender: Arc::clone(&sender),
            drain: Arc::clone(&drain),
            refusals: Arc::clone(&refusals),
            body_timeout: listener.body_timeout,
        };
        let entrance = Entrance {
            proxies: listener.proxies().cloned(),
            sender: Arc::clone(&sender),
            lobby: Lobby::new(listener.max_handshakes, handshakes_of_an_address(listener)),
            shares: Shares::new(listener.max_connections_per_address, listener.max_connections),
            trust: Arc::clone(&trust),
            timeout: listener.handshake_timeout,
            figures: figures.handshakes,
            refusals: Arc::clone(&refusals),
        };
        let connections = Arc::new(Connections {
            entrance,
            application: app::application(webhook, answering),
            budget,
            limits: connection::Limits {
                head: listener.max_head,
                headers: listener.max_headers,
                http2_streams: listener.http2_streams,
                header_timeout: listener.header_timeout,
                idle_timeout: listener.idle_timeout,
                farewell: listener.body_timeout + commit_timeout + deadlines::FAREWELL,
                // A caller that has sent that much more than it may does not look for an answer.
                rest: Rest { bytes: listener.max_body.saturating_mul(2), time: listener.body_timeout },
            },
            trust: Arc::clone(&trust),
            refusals: Arc::clone(&refusals),
        });
        Self {
            path: listener.path.clone(),
            sender,
            trust,
            sockets: Sockets { connections: listener.max_connections, drain_timeout: listener.drain_timeout },
            open: figures.connections,
            connections,
            drain,
            refusals,
            intake,
        }
    }

    /// Uses other TLS settings for the sockets accepted from now on, and ends the connections of the old ones: answers say
    /// so at once, idle connections are closed a moment later. Sessions of the old ones cannot be resumed, because each
    /// [`tls::Loaded`] has ticket keys of its own.
    pub fn replace_tls(&self, loaded: tls::Loaded) {
        self.trust.replace(loaded);
    }

    /// Goes on with the same TLS settings, but ends the connections and the sessions that began under them so far, so that
    /// every caller is verified anew.
    ///
    /// # Errors
    /// When the system gives no randomness; everything is as before then.
    pub fn renew_tls(&self) -> Result<(), tls::Error> {
        self.trust.replace(self.trust.current().loaded.renewed()?);
        Ok(())
    }

    /// Judges requests by other path secrets and networks from now on.
    pub fn replace_sender(&self, sender: settings::Sender) {
        self.sender.store(Arc::new(sender));
    }

    /// Starts the task that keeps what was refused; `None` when there is one already.
    fn write_ledger(&self) -> Option<JoinHandle<()>> {
        let (queued, refusals) = (self.refusals.ledger().take_queued()?, Arc::clone(&self.refusals));
        let unkept = move |count, error: &str| refusals.note_unkept(count, error);
        Some(tokio::spawn(queued.write(self.intake.clone(), unkept)))
    }
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
        super::identity::ClientCertificate::of(der);
    }
}

#[cfg(test)]
mod tests;
