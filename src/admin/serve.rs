//! The admin listener's sockets: how many, how long, and how they end.

use super::{
    access::{Access, Guards},
    caller::Caller,
    door::Door,
    routes::{State, router},
};
use crate::receive::tls::dns_names_of;
use axum::{Extension, Router};
use base::seldom::Seldom;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{collections::VecDeque, io, net, net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Open sockets. One more ends the oldest of them, so that whoever holds sockets keeps nobody from being answered: an honest
/// caller is done a moment after it came.
const SOCKETS: usize = 64;
/// For a handshake, and for a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a socket from its first to its last byte, so that slow readers end too. A socket carries one request. An answer that goes on
/// by its nature ([`Caller::stay`]) ends by itself.
const SOCKET_TIME: Duration = Duration::from_secs(30);
/// For what is under way when the listener ends.
const END_TIME: Duration = Duration::from_secs(2);
/// Pause after `accept` failed, mostly for want of descriptors: trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound admin listener that does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
}

/// Binds an address.
///
/// # Errors
/// The system's: the address is in use or not of this machine.
pub async fn bind(address: SocketAddr, guards: Guards) -> io::Result<Bound> {
    Bound::new(TcpListener::bind(address).await?, guards)
}

/// Uses a socket that listens already.
///
/// # Errors
/// The system's, when it is no socket of TCP.
pub fn inherit(socket: net::TcpListener, guards: Guards) -> io::Result<Bound> {
    socket.set_nonblocking(true)?;
    Bound::new(TcpListener::from_std(socket)?, guards)
}

impl Bound {
    fn new(listener: TcpListener, guards: Guards) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, access: Access::new(guards) })
    }

    /// Where it listens; with the real port where 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom it answers; a handle for rotations.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access.clone()
    }

    /// Answers until `stop` is cancelled, then ends open sockets within two seconds.
    ///
    /// # Cancel safety
    /// When dropped, open sockets end within two seconds too.
    pub async fn serve(self, state: State, stop: CancellationToken) {
        let door = match Door::new(self.access.clone(), state.figures.clone()) {
            Ok(door) => door,
            Err(_error) => {
                tracing::error!(
                    code = "admin_no_randomness",
                    "the admin listener does not answer: the system gives no randomness"
                );
                stop.cancelled().await;
                return;
            }
        };
        let router = router(state, door);
        // Dropped with this future, whatever ends it.
        let ending = stop.child_token();
        let _ended = ending.clone().drop_guard();
        let sockets = TaskTracker::new();
        // Oldest first.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        let failures = Seldom::default();
        // `accept` is cancel safe: it loses no socket.
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((socket, peer)) => {
                    open.retain(|socket| !socket.is_finished());
                    if open.len() >= SOCKETS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    let answer = greet(socket, peer, (self.access.clone(), router.clone()), ending.clone());
                    open.push_back(sockets.spawn(answer).abort_handle());
                }
                Err(error) => {
                    if failures.is_due() {
                        tracing::warn!(code = "admin_accept_failed", %error, "the admin listener could not take a connection");
                    }
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        sockets.close();
        sockets.wait().await;
    }
}

/// Finishes the handshake, where there is one, and answers.
async fn greet(socket: TcpStream, peer: SocketAddr, (access, router): (Access, Router), ending: CancellationToken) {
    let Some(settings) = access.guards().handshakes() else {
        return answer(socket, Caller::new(peer, false, Vec::new()), router, ending).await;
    };
    let handshake = time::timeout(HEAD_TIME, TlsAcceptor::from(settings).accept(socket));
    // How a handshake fails is the caller's affair.
    let Some(Ok(Ok(socket))) = ending.run_until_cancelled(handshake).await else { return };
    let certificate = socket.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = certificate.map(|certificate| dns_names_of(certificate)).unwrap_or_default();
    answer(socket, Caller::new(peer, true, names), router, ending).await;
}

/// Answers the request of one socket, until it ends, grows too old, or the listener ends.
async fn answer(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin,
    caller: Caller,
    router: Router,
    ending: CancellationToken,
) {
    let router = router.layer(Extension(caller.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let too_old = async {
        time::sleep(SOCKET_TIME).await;
        if caller.stays() {
            std::future::pending::<()>().await;
        }
    };
    // How a socket ends is the caller's affair: probes come and go.
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = too_old => return,
        () = ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    time::timeout(END_TIME, connection).await.ok();
}
