//! Everything before the first byte of HTTP: who is behind a socket, and whether it may come in.
//!
//! In: an accepted TCP socket. Out: its TLS stream and what is known of the caller; or nothing, and then the socket was
//! counted, logged and closed.

use super::{
    Generation, Receiver,
    identity::{Certificate, Sender},
    proxy,
    reason::Reason,
    refusals::{Fault, count, log_refusal, turn_away},
    socket::linger,
    tls::clients,
};
use crate::metrics::{Outcome, Verdict};
use base::clock;
use rustls::AlertDescription;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The true address behind a socket: its own, or the one that a configured balancer names.
pub(super) async fn caller_behind(
    receiver: &Receiver,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<SocketAddr> {
    let Some(proxies) = &receiver.proxies else { return Some(peer) };
    if !proxies.contains(peer.ip()) {
        turn_away(receiver, peer, Reason::ProxyUntrusted, "it does not come from listener.proxy_networks");
        return None;
    }
    match timeout_at(deadline, proxy::read(tcp)).await {
        Ok(Ok(proxy::Source::Caller(caller))) => Some(SocketAddr::new(caller.ip().to_canonical(), caller.port())),
        Ok(Ok(proxy::Source::Balancer)) => Some(peer),
        // A balancer that looks whether the port is open.
        Ok(Err(proxy::Error::Nothing)) => None,
        Ok(Err(error)) => {
            tracing::debug!(%peer, error = base::error::chain(&error), "no PROXY header");
            turn_away(receiver, peer, Reason::ProxyInvalid, "it does not begin with a PROXY header of version 1 or 2");
            None
        }
        Err(_elapsed) => {
            turn_away(
                receiver,
                peer,
                Reason::ProxyTimeout,
                "its PROXY header did not come within listener.handshake_timeout",
            );
            None
        }
    }
}

/// Shakes hands and judges the caller's certificate, by the deadline; whoever fails is counted, logged and gone.
pub(super) async fn shake_hands(
    receiver: &Receiver,
    generation: &Generation,
    tcp: TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Option<(TlsStream<TcpStream>, Admitted)> {
    let acceptor = TlsAcceptor::from(Arc::clone(&generation.loaded.config));
    let outcome = |outcome| {
        receiver.metrics.handshakes.get_or_create(&Outcome { outcome }).inc();
    };
    let accepting = clients::noting(acceptor.accept(tcp).into_fallible());
    let Ok((accepted, note)) = timeout_at(deadline, accepting).await else {
        outcome("timeout");
        count(&receiver.metrics, Reason::HandshakeTimeout);
        log_refusal!(receiver, Reason::HandshakeTimeout, %peer, "handshake not finished in time");
        return None;
    };
    let (verdict, error, subject, tcp) = match accepted {
        Ok(stream) => match admit(receiver, generation, &note, &stream, peer) {
            Ok(admitted) => {
                outcome("ok");
                return Some((stream, admitted));
            }
            Err(verdict) => (Some(verdict), None, None, stream.into_inner().0),
        },
        Err((error, tcp)) => {
            let verdict = note.reason.or_else(|| tls_error(&error).and_then(clients::verdict_of));
            (verdict, Some(error), note.subject, tcp)
        }
    };
    outcome("failed");
    if let Some(verdict) = verdict {
        judged(receiver, verdict.label());
        count(&receiver.metrics, Reason::ClientCertificate);
        let error = error.map(tracing::field::display);
        log_refusal!(receiver, verdict, %peer, subject, error, "handshake refused for the client's certificate");
    } else if let Some(error) = error {
        let reason = failure(&error);
        count(&receiver.metrics, reason);
        log_refusal!(receiver, reason, %peer, %error, "handshake failed");
    }
    linger(tcp).await;
    None
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

/// A caller that got through its handshake.
pub(super) struct Admitted {
    pub(super) sender: Sender,
    /// Whether a certificate that is accepted says who it is.
    pub(super) is_proven: bool,
}

/// Says who has finished a handshake. It may yet be refused: a resumed session is not verified again, and its certificate
/// may have ended meanwhile.
fn admit(
    receiver: &Receiver,
    generation: &Generation,
    note: &clients::Note,
    stream: &TlsStream<TcpStream>,
    peer: SocketAddr,
) -> Result<Admitted, Reason> {
    let tls = stream.get_ref().1;
    if generation.loaded.authorities.is_empty() {
        return Ok(Admitted { sender: Sender::of(peer, tls, None, None), is_proven: false });
    }
    let own = tls.peer_certificates().and_then(<[_]>::first);
    if generation.loaded.is_observing {
        let reason = note.reason.or_else(|| own.is_none().then_some(Reason::NoCertificate));
        judged(receiver, reason.map_or("ok", Reason::label));
        if let Some(reason) = reason
            && receiver.refusals.is_first_fault(Fault::Observed(reason))
        {
            tracing::warn!(
                %peer,
                reason = reason.label(),
                subject = note.subject,
                "a caller was let in that would be refused if client certificates were required"
            );
        }
        let vouched_for = own.filter(|_| note.is_vouched_for).map(|der| Certificate::of(der));
        let sender = Sender::of(peer, tls, vouched_for, reason.map(Reason::label));
        return Ok(Admitted { sender, is_proven: reason.is_none() });
    }
    let certificate = Certificate::of(own.ok_or(Reason::NoCertificate)?);
    let now = clock::now();
    if certificate.ends < now {
        return Err(Reason::Expired);
    }
    judged(receiver, "ok");
    let (ends, earliest) = (certificate.ends.as_millis().div_euclid(1000), &receiver.metrics.client_certificate_expiry);
    let known = earliest.get();
    // One that has ended was probably renewed: those that are still in use say when it is urgent.
    if ends < known || known < now.as_millis().div_euclid(1000) {
        earliest.set(ends);
    }
    Ok(Admitted { sender: Sender::of(peer, tls, Some(certificate), None), is_proven: true })
}

fn judged(receiver: &Receiver, verdict: &'static str) {
    receiver.metrics.client_certificates.get_or_create(&Verdict { verdict }).inc();
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
