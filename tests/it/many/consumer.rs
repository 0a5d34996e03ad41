//! The integrator's endpoint of several receivers: it sees which of them delivers what, and when.

use super::history::Delivery;
use base::sync::lock;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

type Seen = Arc<Mutex<Vec<Delivery>>>;

/// A running endpoint; it stops when this value is dropped.
pub(super) struct Consumer {
    address: SocketAddr,
    seen: Seen,
    accepting: JoinHandle<()>,
}

impl Consumer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&seen)));
        Self { address, seen, accepting }
    }

    /// Where a receiver delivers.
    pub(super) fn url(&self, receiver: usize) -> String {
        format!("http://{}/{receiver}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Delivery> {
        lock(&self.seen).clone()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, seen: Seen) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
        connections.spawn(async move {
            // A receiver that is killed says no goodbye.
            http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.unwrap_or_default();
        });
    }
}

/// A delivery that is under way; noted when it is answered, or dropped because the receiver has gone.
struct UnderWay {
    delivery: Option<Delivery>,
    seen: Seen,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            lock(&self.seen).push(Delivery { ended: Instant::now(), ..delivery });
        }
    }
}

async fn answer(request: Request<Incoming>, seen: Seen) -> Result<Response<Empty<bytes::Bytes>>, Infallible> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) };
    let id = parts.headers.get("ce-id").map_or("", |id| id.to_str().unwrap()).to_owned();
    let receiver = parts.uri.path().trim_start_matches('/').parse().unwrap();
    let delivery = Delivery { receiver, id, body: body.to_bytes(), began, ended: began, is_taken: false };
    let mut under_way = UnderWay { delivery: Some(delivery), seen };
    // Long enough to be seen beside another one.
    sleep(Duration::from_millis(fastrand::u64(..15))).await;
    if let Some(delivery) = &mut under_way.delivery {
        delivery.is_taken = true;
    }
    Ok(Response::default())
}
