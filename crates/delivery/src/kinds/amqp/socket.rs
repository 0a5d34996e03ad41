//! Gives lapin a socket of ours, and takes it away again.
//!
//! lapin reads and writes on a thread of its own, until the socket ends or the broker answers its farewell. A broker that hangs
//! does neither, so the thread would stay for good. [`Leash`] ends the socket from this side.

use crate::broker::Socket;
use async_rs::{
    Runtime, Tokio,
    traits::Reactor,
    util::{DummyIO, RuntimeParts},
};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// Holds a socket; it ends when this is dropped.
pub(super) struct Leash(#[expect(dead_code, reason = "dropping it is what counts")] oneshot::Sender<()>);

/// A socket on a leash.
pub(super) struct Leashed {
    socket: Compat<Socket>,
    held: Option<oneshot::Receiver<()>>,
}

/// Puts a socket on a leash.
pub(super) fn leashed(socket: Socket) -> (Leashed, Leash) {
    let (leash, held) = oneshot::channel();
    (Leashed { socket: socket.compat(), held: Some(held) }, Leash(leash))
}

impl Leashed {
    /// Whether the socket was taken away; remembers who is to be woken when it is.
    fn is_taken(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(held) = &mut self.held
            && Pin::new(held).poll(context).is_ready()
        {
            self.held = None;
        }
        self.held.is_none()
    }
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the sink gave the connection up")
}

impl AsyncRead for Leashed {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_taken(context) {
            return Poll::Ready(Err(taken()));
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Leashed {
    // The leash is looked at by the reader, which is always waiting: one place can be woken by it.
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.held.is_none() {
            return Poll::Ready(Err(taken()));
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_none() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// What lapin runs on: tokio, with sockets that only we make.
pub(super) type Kit = RuntimeParts<Tokio, Ours>;

/// The present tokio runtime for lapin.
pub(super) fn runtime() -> Runtime<Kit> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Ours(Tokio::current())))
}

/// Timers of tokio, and no sockets but ours.
#[derive(Clone, Debug)]
pub(super) struct Ours(Tokio);

impl Reactor for Ours {
    type TcpStream = Leashed;
    type Sleep = tokio::time::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Leashed>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
