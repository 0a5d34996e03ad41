//! The admin listener's sockets: how many, how long, and how they end.

use super::routes::{Access, Seldom, State, router};
use axum::{Extension, Router};
use base::secret::Secret;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{collections::VecDeque, io, net, net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Open sockets. One more ends the oldest of them, so that whoever holds sockets keeps nobody from being answered: an honest
/// caller is done a moment after it came.
const SOCKETS: usize = 64;
/// For a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// For a socket from its first to its last byte, so that slow readers end too. A socket carries one request.
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

/// Binds an address. Where there is a token, figures are for those who have it.
///
/// # Errors
/// The system's: the address is in use or not of this machine.
pub async fn bind(address: SocketAddr, token: Option<Secret>) -> io::Result<Bound> {
    Bound::new(TcpListener::bind(address).await?, token)
}

/// Uses a socket that listens already.
///
/// # Errors
/// The system's, when it is no socket of TCP.
pub fn inherit(socket: net::TcpListener, token: Option<Secret>) -> io::Result<Bound> {
    socket.set_nonblocking(true)?;
    Bound::new(TcpListener::from_std(socket)?, token)
}

impl Bound {
    fn new(listener: TcpListener, token: Option<Secret>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, access: Access::new(token) })
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
        let router = router(state, self.access);
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
                    let router = router.clone().layer(Extension(peer));
                    let answer = answer(socket, router, ending.clone());
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

/// Answers the request of one socket, until it ends, grows too old, or the listener ends.
async fn answer(socket: TcpStream, router: Router, ending: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a socket ends is the caller's affair: probes come and go.
    tokio::select! {
        _ended = time::timeout(SOCKET_TIME, connection.as_mut()) => return,
        () = ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    time::timeout(END_TIME, connection).await.ok();
}
