//! The integrator's own HTTP endpoint: takes deliveries, judges each, remembers all.

use base::sync::lock;
use bytes::Bytes;
use double::CANARY;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// One attempt that reached the endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// What it was answered; `None`: it waits for ever.
    pub(crate) status: Option<u16>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn is_taken(&self) -> bool {
        self.status == Some(200)
    }
}

type Judge = dyn FnMut(&Received) -> Option<u16> + Send;

/// A running endpoint; it stops when this value is dropped.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    judge: Arc<Mutex<Box<Judge>>>,
    accepting: JoinHandle<()>,
}

impl Endpoint {
    /// Answers every attempt as `judge` says: a status, or `None` to never answer.
    pub(crate) async fn start(judge: impl FnMut(&Received) -> Option<u16> + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let judge: Arc<Mutex<Box<Judge>>> = Arc::new(Mutex::new(Box::new(judge)));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&received), Arc::clone(&judge)));
        Self { address, received, judge, accepting }
    }

    /// Judges otherwise from now on.
    pub(crate) fn judge(&self, judge: impl FnMut(&Received) -> Option<u16> + Send + 'static) {
        *lock(&self.judge) = Box::new(judge);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/linxo", self.address)
    }

    /// Every attempt.
    pub(crate) fn attempts(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }

    /// What was answered 200, in that order.
    pub(crate) fn taken(&self) -> Vec<Received> {
        lock(&self.received).iter().filter(|received| received.is_taken()).cloned().collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, received: Arc<Mutex<Vec<Received>>>, judge: Arc<Mutex<Box<Judge>>>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (received, judge) = (Arc::clone(&received), Arc::clone(&judge));
        let service = service_fn(move |request| answer(request, Arc::clone(&received), Arc::clone(&judge)));
        connections.spawn(async move {
            // A service that is killed says no goodbye.
            http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.unwrap_or_default();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    received: Arc<Mutex<Vec<Received>>>,
    judge: Arc<Mutex<Box<Judge>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) };
    let path = parts.uri.path().to_owned();
    let mut attempt = Received { path, headers: parts.headers, body: body.to_bytes(), status: None };
    attempt.status = lock(&judge)(&attempt);
    let status = attempt.status;
    lock(&received).push(attempt);
    match status {
        // What an endpoint says must not reach a log either.
        Some(status) => Ok(Response::builder().status(status).body(Full::from(CANARY)).unwrap()),
        None => pending().await,
    }
}
