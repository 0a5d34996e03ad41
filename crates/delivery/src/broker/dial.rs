//! Connects to a server: TCP to the first judged address that answers, and TLS where the server is spoken to encrypted.
//!
//! In: a configured server. Out: a socket, or a failure that says in which step it failed. Names are resolved and judged by
//! [`outbound`] for each connection, and the connection goes to the judged address.

use crate::{fault, sink::Failure};
use base::{error::chain, outbound};
use rustls_pki_types::ServerName;
use settings::urls::Server;
use std::{error::Error as StdError, io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Both directions of a connection, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection to a server.
pub(crate) type Socket = Box<dyn Duplex>;

/// The way to one server.
#[derive(Clone)]
pub(crate) struct Dial {
    server: Server,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Dial {
    /// `tls` is used where the server is encrypted, and only there.
    pub(crate) fn new(server: Server, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let tls = tls.filter(|_| server.is_encrypted);
        Self { server, tls }
    }

    /// Connects. The caller limits the time.
    ///
    /// # Cancel safety
    /// What there is of a connection is closed.
    pub(crate) async fn dial(&self) -> Result<Socket, Failure> {
        let socket = self.tcp().await.map_err(|error| could_not_connect(&error))?;
        socket.set_nodelay(true).map_err(|error| could_not_connect(&error))?;
        let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
        let name = ServerName::try_from(self.server.host.clone()).map_err(|error| could_not_connect(&error))?;
        let socket = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await;
        Ok(Box::new(socket.map_err(|error| could_not_connect(&error))?))
    }

    async fn tcp(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in outbound::resolve(&self.server.host, self.server.port).await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What a server that cannot be reached says, in words without its address.
pub(crate) fn could_not_connect(error: &(dyn StdError + 'static)) -> Failure {
    let words = fault::words(error).unwrap_or_else(|| {
        let all = chain(error);
        if all.contains("failed to lookup address") { "the host name could not be resolved".to_owned() } else { all }
    });
    Failure::transient(format!("could not connect: {words}"))
}
