//! The admin listener's sockets: how many, how long, and how they end.

use super::{Access, State, router};
use crate::config;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};

/// Open sockets; more wait in the system's queue.
const SOCKETS: usize = 64;
/// For a request's head, from the moment the socket is ready for one; also how long an idle socket stays.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// A socket is asked to end after this, so that slow readers cannot hold all of them for ever.
const SOCKET_TIME: Duration = Duration::from_mins(5);
/// From that request to its forced end.
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

/// Binds the configured address.
///
/// # Errors
/// The system's: the address is in use or not of this machine.
pub async fn bind(config: &config::Admin) -> io::Result<Bound> {
    let listener = TcpListener::bind(config.address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address, access: Access::new(config.token.clone()) })
}

impl Bound {
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

    /// Answers until `shutdown` resolves, then ends open sockets within two seconds.
    ///
    /// # Cancel safety
    /// When dropped, open sockets are closed at once.
    pub async fn serve(self, state: State, shutdown: impl Future<Output = ()>) {
        let router = router(state, self.access);
        let places = Arc::new(Semaphore::new(SOCKETS));
        let ending = watch::Sender::new(false);
        let mut sockets = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &places) => accepted,
                // Finished sockets are collected as they end.
                Some(_ended) = sockets.join_next() => continue,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((socket, place)) => {
                    let answer = answer(socket, router.clone(), ending.subscribe());
                    sockets.spawn(async move {
                        answer.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not take a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        ending.send_replace(true);
        while sockets.join_next().await.is_some() {}
    }
}

/// The next socket, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, _peer) = listener.accept().await?;
    Ok((socket, place))
}

/// Answers the requests of one socket until it ends, grows too old, or the listener ends.
async fn answer(socket: TcpStream, router: Router, mut ending: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a socket ends is the caller's affair: probes come and go.
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = time::sleep(SOCKET_TIME) => {}
        _ending = ending.wait_for(|ending| *ending) => {}
    }
    connection.as_mut().graceful_shutdown();
    time::timeout(END_TIME, connection).await.ok();
}
