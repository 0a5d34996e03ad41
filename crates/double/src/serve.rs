//! Sockets of the double: plain or TLS, HTTP/1.1 or HTTP/2.

use crate::{pki::Identity, routes, state::Shared};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Longest time for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The TLS side of the double.
pub(crate) fn acceptor(identity: &Identity, http2: bool) -> io::Result<TlsAcceptor> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| io::Error::new(io::ErrorKind::InvalidInput, error);
    let chain = identity.certificates().map_err(|error| unusable(error.into()))?;
    let key = identity.key().map_err(|error| unusable(error.into()))?;
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until aborted; connections end with it, as the set that holds them is dropped.
pub(crate) async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else {
                    // Out of descriptors: waiting is all that helps.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                shared.sockets.fetch_add(1, Ordering::Relaxed);
                socket.set_nodelay(true).unwrap_or_default();
                let shared = Arc::clone(&shared);
                match acceptor.clone() {
                    None => connections.spawn(serve(socket, shared)),
                    Some(acceptor) => connections.spawn(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(socket)).await {
                            serve(stream, shared).await;
                        }
                    }),
                };
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, shared: Arc<Shared>) {
    let service = service_fn(move |request| routes::answer(Arc::clone(&shared), request));
    // An error here is a fault that was played, or a caller that hung up. Both are expected.
    if let Err(error) = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(code = "double_connection_ended", error, "a connection to the vendor double ended early");
    }
}
