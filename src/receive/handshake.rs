//! Everything before the first byte of HTTP: who is behind a socket, and whether it may come in.
//!
//! In: an accepted TCP socket. Out: its TLS stream and what is known of the caller; or nothing, and then the socket was
//! counted, logged and closed. One that never sends a byte of TLS is counted only: load balancers look in this way whether
//! the port is open.

use super::{
    caller::Caller,
    figures,
    identity::{ClientCertificate, Identity},
    lobby::{Lobby, Ticket},
    proxy,
    reason::Reason,
    refusals::{Fault, Refusals, log_refusal},
    settings::Sender,
    shares::{Share, Shares, Standing},
    socket::{Rest, linger},
    tls::note::{self, Note},
    trust::{Generation, Trust},
};
use ::settings::Networks;
use arc_swap::ArcSwap;
use base::clock::{self, Timestamp};
use rustls::AlertDescription;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What is needed to let callers in.
#[derive(Debug)]
pub(super) struct Entrance {
    /// Balancers that name the caller; `None`: callers connect directly.
    pub(super) proxies: Option<Networks>,
    /// Read with each socket: who is awaited goes first.
    pub(super) sender: Arc<ArcSwap<Sender>>,
    /// Handshakes under way.
    pub(super) lobby: Arc<Lobby>,
    /// Connections by address.
    pub(super) shares: Arc<Shares>,
    pub(super) trust: Arc<Trust>,
    /// For the PROXY header and the handshake together.
    pub(super) timeout: Duration,
    pub(super) figures: figures::Handshakes,
    pub(super) refusals: Arc<Refusals>,
}

/// A socket that has got through its handshake.
pub(super) struct Arrived {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) caller: Caller,
    /// Its place among the connections of its address.
    pub(super) share: Share,
}

impl Entrance {
    /// A place for the handshake of a socket; `None` when there is no room for it.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Ticket> {
        match &self.proxies {
            // Who is behind it shows in its first bytes.
            Some(proxies) if proxies.contains(peer) => self.lobby.enter(None, Standing::Awaited),
            Some(_) => self.lobby.enter(Some(peer), Standing::Stranger),
            None => self.lobby.enter(Some(peer), self.standing(peer)),
        }
    }

    /// Finds out who is there, takes a place for that address, and shakes hands: all within the timeout, and as long as the
    /// place for the handshake is not needed for another one.
    pub(super) async fn arrive(&self, tcp: TcpStream, peer: SocketAddr, ticket: Ticket) -> Option<Arrived> {
        let must_leave = ticket.must_leave();
        tokio::select! {
            biased;
            () = must_leave.cancelled() => {
                let why = "as many handshakes are under way as allowed, and this one had made the least of its time";
                self.refusals.turn_away(peer, Reason::HandshakeLimit, why);
                None
            }
            arrived = self.let_in(tcp, peer, ticket) => arrived,
        }
    }

    async fn let_in(&self, mut tcp: TcpStream, peer: SocketAddr, mut ticket: Ticket) -> Option<Arrived> {
        let deadline = Instant::now() + self.timeout;
        let peer = self.caller_behind(&mut tcp, peer, deadline, &mut ticket).await?;
        let standing = self.standing(peer.ip());
        let share = match self.shares.take(peer.ip(), standing) {
            Ok(share) => share,
            Err(reason) => {
                let why = if reason == Reason::StrangerLimit {
                    "callers from outside of sender.networks have half of listener.max_connections open"
                } else {
                    "its address has as many open as listener.max_connections_per_address allows"
                };
                self.refusals.turn_away(peer, reason, why);
                return None;
            }
        };
        self.first_byte(&tcp, deadline).await?;
        ticket.begin();
        let generation = self.trust.current();
        let (stream, admitted) = self.shake_hands(&generation, tcp, peer, deadline).await?;
        let Admitted { identity, is_proven, ends } = admitted;
        let ends = ends.and_then(|ends| Instant::now().checked_add(ends.since(clock::now())));
        let is_known = is_proven || standing == Standing::Awaited;
        let caller = Caller { peer, is_proven, is_known, sender: identity.to_json(), generation, ends };
        Some(Arrived { stream, caller, share })
    }

    /// Whether callers from an address are awaited.
    fn standing(&self, address: IpAddr) -> Standing {
        let sender = self.sender.load();
        match (sender.networks.is_selective(), sender.networks.contains(address)) {
            (false, _) => Standing::Anybody,
            (true, true) => Standing::Awaited,
            (true, false) => Standing::Stranger,
        }
    }

    /// Waits for a first byte; `None` where none comes: then somebody only looked whether the port is open.
    async fn first_byte(&self, tcp: &TcpStream, deadline: Instant) -> Option<()> {
        if let Ok(Ok(1..)) = timeout_at(deadline, tcp.peek(&mut [0])).await {
            return Some(());
        }
        self.refusals.count(Reason::Probe);
        None
    }

    /// The true address behind a socket: its own, or the one that a configured balancer names.
    async fn caller_behind(
        &self,
        tcp: &mut TcpStream,
        peer: SocketAddr,
        deadline: Instant,
        ticket: &mut Ticket,
    ) -> Option<SocketAddr> {
        let Some(proxies) = &self.proxies else { return Some(peer) };
        if !proxies.contains(peer.ip()) {
            self.refusals.turn_away(peer, Reason::ProxyUntrusted, "it does not come from listener.proxy_networks");
            return None;
        }
        self.first_byte(tcp, deadline).await?;
        match timeout_at(deadline, proxy::read(tcp)).await {
            Ok(Ok(source)) => {
                let caller = match source {
                    proxy::Source::Caller(caller) => SocketAddr::new(caller.ip().to_canonical(), caller.port()),
                    proxy::Source::Balancer => peer,
                };
                if !ticket.comes_from(caller.ip(), self.standing(caller.ip())) {
                    let why = "its address has its share of listener.max_handshakes under way";
                    self.refusals.turn_away(caller, Reason::HandshakeLimit, why);
                    return None;
                }
                Some(caller)
            }
            Ok(Err(error)) => {
                tracing::debug!(code = "proxy_header_missing", %peer, error = base::error::chain(&error), "no PROXY header");
                self.refusals.turn_away(
                    peer,
                    Reason::ProxyInvalid,
                    "it does not begin with a PROXY header of version 1 or 2",
                );
                None
            }
            Err(_elapsed) => {
                self.refusals.turn_away(
                    peer,
                    Reason::ProxyTimeout,
                    "its PROXY header did not come within listener.handshake_timeout",
                );
                None
            }
        }
    }

    /// Shakes hands and judges the caller's certificate, by the deadline; whoever fails is counted, logged and gone.
    async fn shake_hands(
        &self,
        generation: &Generation,
        tcp: TcpStream,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Option<(TlsStream<TcpStream>, Admitted)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&generation.loaded.config));
        let accepting = note::noting(acceptor.accept(tcp).into_fallible());
        let Ok((accepted, note)) = timeout_at(deadline, accepting).await else {
            self.figures.ended("timeout");
            self.refusals.count(Reason::HandshakeTimeout);
            log_refusal!(self.refusals, Reason::HandshakeTimeout, code = "handshake_late", %peer, "handshake not finished in time");
            return None;
        };
        let (verdict, error, subject, tcp) = match accepted {
            Ok(stream) => match self.admit(generation, &note, &stream, peer) {
                Ok(admitted) => {
                    self.figures.ended("ok");
                    return Some((stream, admitted));
                }
                Err(verdict) => (Some(verdict), None, None, stream.into_inner().0),
            },
            Err((error, tcp)) => {
                let verdict = note.reason.or_else(|| tls_error(&error).and_then(note::verdict_of));
                (verdict, Some(error), note.subject, tcp)
            }
        };
        self.figures.ended("failed");
        if let Some(verdict) = verdict {
            self.figures.judged(verdict.label());
            self.refusals.count(Reason::ClientCertificate);
            let error = error.map(tracing::field::display);
            log_refusal!(self.refusals, verdict, code = "certificate_refused", %peer, subject, error, "handshake refused for the client's certificate");
        } else if let Some(error) = error {
            let reason = failure(&error);
            self.refusals.count(reason);
            log_refusal!(self.refusals, reason, code = "handshake_failed", %peer, %error, "handshake failed");
        }
        linger(tcp, Rest::SHORT).await;
        None
    }

    /// Says who has finished a handshake. It may yet be refused: a resumed session is not verified again, and its certificate
    /// may have ended meanwhile.
    fn admit(
        &self,
        generation: &Generation,
        note: &Note,
        stream: &TlsStream<TcpStream>,
        peer: SocketAddr,
    ) -> Result<Admitted, Reason> {
        let tls = stream.get_ref().1;
        if generation.loaded.authorities.is_empty() {
            return Ok(Admitted { identity: Identity::of(peer, tls, None, None), is_proven: false, ends: None });
        }
        let own = tls.peer_certificates().and_then(<[_]>::first);
        if generation.loaded.is_observing {
            let reason = note.reason.or_else(|| own.is_none().then_some(Reason::NoCertificate));
            self.figures.judged(reason.map_or("ok", Reason::label));
            if let Some(reason) = reason
                && self.refusals.is_first_fault(Fault::Observed(reason))
            {
                tracing::warn!(
                    code = "certificate_observed",
                    %peer,
                    reason = reason.label(),
                    subject = note.subject,
                    "a caller was let in that would be refused if client certificates were required"
                );
            }
            let vouched_for = own.filter(|_| note.is_vouched_for).map(|der| ClientCertificate::of(der));
            let identity = Identity::of(peer, tls, vouched_for, reason.map(Reason::label));
            // Nobody is refused for a certificate here, so nobody is ended with one.
            return Ok(Admitted { identity, is_proven: reason.is_none(), ends: None });
        }
        let certificate = ClientCertificate::of(own.ok_or(Reason::NoCertificate)?);
        let now = clock::now();
        if certificate.ends < now {
            return Err(Reason::Expired);
        }
        self.figures.judged("ok");
        self.trust.note_client(certificate.ends, now);
        let ends = Some(certificate.ends);
        Ok(Admitted { identity: Identity::of(peer, tls, Some(certificate), None), is_proven: true, ends })
    }
}

/// A caller that got through its handshake.
struct Admitted {
    identity: Identity,
    /// Whether a certificate that is accepted says who it is.
    is_proven: bool,
    /// The end of the certificate that let it in.
    ends: Option<Timestamp>,
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed, if not for the client's certificate.
fn failure(error: &io::Error) -> Reason {
    use rustls::Error as Tls;
    match tls_error(error) {
        Some(Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol) => Reason::TlsIncompatible,
        Some(Tls::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => Reason::ServerCertificateRefused,
        Some(Tls::AlertReceived(_)) => Reason::TlsAlert,
        Some(_) => Reason::TlsInvalid,
        None => Reason::TlsBroken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::Error as Tls;

    #[test]
    fn sorts_failures() {
        for (error, reason) in [
            (Tls::NoApplicationProtocol, Reason::TlsIncompatible),
            (Tls::AlertReceived(AlertDescription::UnknownCA), Reason::ServerCertificateRefused),
            (Tls::AlertReceived(AlertDescription::HandshakeFailure), Reason::TlsAlert),
            (Tls::DecryptError, Reason::TlsInvalid),
        ] {
            assert_eq!(failure(&io::Error::new(io::ErrorKind::InvalidData, error)), reason);
        }
        assert_eq!(failure(&io::ErrorKind::UnexpectedEof.into()), Reason::TlsBroken);
    }
}
