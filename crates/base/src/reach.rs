//! Whether a server can be reached, without asking anything of it: TCP, and TLS where the URL says so.
//!
//! In: the client that would make the true requests, and a URL. Out: whether a connection came about. The client is
//! built with a layer around its connector that ends the call as soon as there is a connection. So names, addresses and
//! certificates are judged exactly as later, and not one byte of HTTP is sent.

use reqwest::ClientBuilder;
use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tower::{Layer, Service};
use url::Url;

/// Host and port of a URL: what may be shown of it.
#[must_use]
pub fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Connects, and closes the connection.
///
/// # Errors
/// Why there is no connection, or no client.
///
/// # Cancel safety
/// When dropped, the connection is given up.
pub async fn reach(client: ClientBuilder, url: &Url) -> Result<(), reqwest::Error> {
    let mut bare = url.clone();
    bare.set_path("/");
    bare.set_query(None);
    let client = client.connector_layer(Stop).build()?;
    match client.get(bare).send().await {
        Err(error) if is_reached(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// Whether the layer ended the call.
fn is_reached(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<Reached>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// There is a connection, and that is enough.
#[derive(Clone, Copy, Debug)]
struct Reached;

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server was reached")
    }
}

impl StdError for Reached {}

type BoxError = Box<dyn StdError + Send + Sync>;

/// Ends every call when it has its connection.
#[derive(Clone, Copy, Debug)]
struct Stop;

impl<S> Layer<S> for Stop {
    type Service = Stopped<S>;

    fn layer(&self, inner: S) -> Stopped<S> {
        Stopped(inner)
    }
}

#[derive(Clone, Debug)]
struct Stopped<S>(S);

impl<R, S> Service<R> for Stopped<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            connecting.await?;
            Err(Reached.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    /// (F4) A server that never answers is reached all the same, and is sent nothing.
    #[tokio::test]
    async fn connects_and_sends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/secret?token=1", listener.local_addr().unwrap())).unwrap();
        let taken = tokio::spawn(async move {
            let mut bytes = Vec::new();
            listener.accept().await.unwrap().0.read_to_end(&mut bytes).await.unwrap();
            (bytes, listener)
        });
        let client = || ClientBuilder::new().tls_certs_only([]).no_proxy();
        reach(client(), &url).await.unwrap();
        let (bytes, listener) = taken.await.unwrap();
        assert!(bytes.is_empty(), "{bytes:?}");
        drop(listener);
        let error = reach(client(), &url).await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        assert_eq!(host(&url), url.authority());
        assert_eq!(host(&Url::parse("https://app.internal/x").unwrap()), "app.internal:443");
    }
}
