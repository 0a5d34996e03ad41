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
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

/// A caller that has sent nothing for so long has seen its answer, or never will.
const SILENCE: Duration = Duration::from_secs(1);
/// Read at once.
const PIECE: usize = 16 * 1024;

/// What is still read of a closed socket at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

impl Rest {
    /// The rest of it where some of it was read before.
    pub(super) fn after(self, read: u64) -> Self {
        Self { bytes: self.bytes.saturating_sub(read), ..self }
    }

    /// Of a caller that has hardly begun.
    pub(super) const SHORT: Self = Self { bytes: 64 * 1024, time: SILENCE };
}

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
/// overtake the answer that the caller should see (413, 408, a TLS alert). A caller that looks for an answer only after it has
/// sent everything sees it, as long as that is no more than `rest` allows.
pub(super) async fn linger(mut tcp: TcpStream, rest: Rest) {
    let read_on = async {
        tcp.shutdown().await?;
        let (mut left, mut scrap) = (rest.bytes, vec![0; PIECE]);
        while left > 0 {
            match timeout(SILENCE, tcp.read(&mut scrap)).await {
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(read) => left = left.saturating_sub(read? as u64),
            }
        }
        // More is coming than we care to read: hold the socket until the caller had time to read its answer.
        sleep(SILENCE).await;
        io::Result::Ok(())
    };
    // Whether it was the caller or the clock that ended this makes no difference.
    drop(timeout(rest.time, read_on).await);
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.activity.bytes(read);
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
