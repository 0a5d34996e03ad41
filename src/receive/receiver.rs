//! The receiver: its parts put together, and what a reload changes of them.

use super::{
    app::{self, Answering, Bodies, COMMIT_TIMEOUT, Commits, Webhook},
    budget::Budget,
    connection::{self, Connections},
    deadlines,
    drain::Drain,
    figures::Figures,
    handshake::Entrance,
    intake::Intake,
    lobby::Lobby,
    refusals::Refusals,
    settings,
    shares::Shares,
    socket::Rest,
    tls,
    trust::Trust,
};
use crate::observe::traces::Tracer;
use arc_swap::ArcSwap;
use base::clock;
use prometheus_client::metrics::gauge::Gauge;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// The public listener without its socket: what a reload changes, and what `Bound::serve` divides among its parts.
#[derive(Debug)]
pub struct Receiver {
    pub(super) path: String,
    pub(super) sender: Arc<ArcSwap<settings::Sender>>,
    pub(super) trust: Arc<Trust>,
    pub(super) sockets: Sockets,
    /// Counts open sockets.
    pub(super) open: Gauge,
    pub(super) connections: Arc<Connections>,
    pub(super) drain: Arc<Drain>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) intake: Intake,
}

/// Handshakes that an address may have under way: the same share as of the connections.
fn handshakes_of_an_address(listener: &settings::Listener) -> usize {
    let share = listener.max_handshakes.saturating_mul(listener.max_connections_per_address) / listener.max_connections;
    share.clamp(1, listener.max_handshakes)
}

/// Bounds on all sockets together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sockets {
    pub(super) connections: usize,
    pub(super) drain_timeout: Duration,
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
        tracer: Tracer,
    ) -> Self {
        Self::with_commit_timeout(listener, sender, tls, Intake::new(inbox), (figures, tracer), COMMIT_TIMEOUT)
    }

    pub(super) fn with_commit_timeout(
        listener: &settings::Listener,
        sender: &settings::Sender,
        tls: tls::Loaded,
        intake: Intake,
        (figures, tracer): (Figures, Tracer),
        commit_timeout: Duration,
    ) -> Self {
        let sender = Arc::new(ArcSwap::from_pointee(sender.clone()));
        let trust = Arc::new(Trust::new(tls, figures.certificates));
        let refusals = Arc::new(Refusals::new(figures.refused, figures.answers));
        let drain = Arc::new(Drain::new());
        let budget = Arc::new(Budget::new(listener.max_requests, listener.body_memory));
        let commits = Commits {
            intake: intake.clone(),
            timeout: commit_timeout,
            figures: figures.events,
            refusals: Arc::clone(&refusals),
            tracer,
        };
        commits.hear_of_folds();
        let webhook = Webhook {
            path: listener.path.clone(),
            bodies: Bodies { limit: listener.max_body, timeout: listener.body_timeout, budget: Arc::clone(&budget) },
            commits,
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

    /// The server's certificate in use.
    #[must_use]
    pub fn certificate(&self) -> tls::Certificate {
        self.trust.current().loaded.certificate.clone()
    }

    /// Why no caller can be served, though everything else is well: the server's certificate has ended.
    #[must_use]
    pub fn hindrance(&self) -> Option<String> {
        let validity = self.trust.current().loaded.certificate.validity(clock::now());
        if validity == tls::Validity::Expired { validity.problem() } else { None }
    }

    /// Judges requests by other path secrets and networks from now on.
    pub fn replace_sender(&self, sender: settings::Sender) {
        self.sender.store(Arc::new(sender));
    }

    /// Starts the task that keeps what was refused; `None` when there is one already.
    pub(super) fn write_ledger(&self) -> Option<JoinHandle<()>> {
        let (queued, refusals) = (self.refusals.ledger().take_queued()?, Arc::clone(&self.refusals));
        let unkept = move |count, error: &str| refusals.note_unkept(count, error);
        Some(tokio::spawn(queued.write(self.intake.clone(), unkept)))
    }
}
