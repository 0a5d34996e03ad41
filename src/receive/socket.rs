//! A TLS stream that notes when bytes come, and the polite way to close a TCP socket.

use super::activity::Activity;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

/// How long and for how many bytes a closed socket is still read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// What hyper reads from and writes to.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TlsStream<TcpStream>,
    activity: Arc<Activity>,
}

impl Socket {
    pub(super) fn new(stream: TlsStream<TcpStream>, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    /// The TCP socket below, for [`linger`].
    pub(super) fn into_tcp(self) -> TcpStream {
        self.stream.into_inner().0
    }
}

/// Ends the sending side, then reads on for a moment. Closing a socket with unread bytes resets it, and the reset may
/// overtake the answer that the caller should see (413, 408, a TLS alert).
pub(super) async fn linger(mut tcp: TcpStream) {
    let read_on = async {
        tcp.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut scrap = [0; 1024];
        while left > 0 {
            match tcp.read(&mut scrap).await? {
                0 => return Ok(()),
                read => left = left.saturating_sub(read),
            }
        }
        // More is coming than we care to read: hold the socket until the caller had time to read its answer.
        std::future::pending::<io::Result<()>>().await
    };
    // Whether it was the caller or the clock that ended this makes no difference.
    drop(timeout(LINGER, read_on).await);
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes();
        }
        poll
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
