//! What this program is when it starts itself again: the ceiling, an endpoint for deliveries, the vendor's API.

use crate::Outcome;
use axum::{Router, body::Bytes as Body, http::StatusCode, routing::post};
use bytes::Bytes;
use double::{Connection, Settings, Simulator, pki};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use linxo_webhook::{config, receive::tls};
use serde_json::{Value, json};
use std::{
    io::{self, Write as _},
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

/// Plays a role until it is killed.
pub(crate) async fn play(arguments: &[String]) -> Outcome<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?;
    match arguments {
        [role, path] if role == "ceiling" => ceiling(Path::new(path)).await,
        [role, _] if role == "endpoint" => endpoint().await,
        [role, path] if role == "vendor" => vendor(Path::new(path)).await,
        _ => Err("no such role".into()),
    }
}

/// Parses each event as JSON, stores nothing, answers 200; anything else is 404.
async fn ceiling(configuration: &Path) -> Outcome<()> {
    let config = config::load(Some(configuration), [])?;
    let acceptor = TlsAcceptor::from(tls::load(&config.tls)?.config);
    let router = Router::new().route(&config.listener.path, post(parse));
    let listener = listen()?;
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            tcp.set_nodelay(true).unwrap_or_default();
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = TowerToHyperService::new(router);
            // A client that leaves is no matter here.
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .unwrap_or_default();
        });
    }
}

async fn parse(body: Body) -> Result<axum::Json<Value>, StatusCode> {
    let event: Value = serde_json::from_slice(&body).map_err(|_error| StatusCode::BAD_REQUEST)?;
    Ok(axum::Json(json!({ "status": "accepted", "id": event.get("id") })))
}

/// Takes deliveries over plain HTTP and answers 204 at once.
async fn endpoint() -> Outcome<()> {
    let listener = listen()?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tokio::spawn(async move {
            tcp.set_nodelay(true).unwrap_or_default();
            let service = service_fn(|request: Request<Incoming>| async {
                request.into_body().collect().await?;
                let mut answer = Response::new(Full::<Bytes>::default());
                *answer.status_mut() = StatusCode::NO_CONTENT;
                Ok::<_, hyper::Error>(answer)
            });
            http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.unwrap_or_default();
        });
    }
}

/// The vendor double; the file says how many connections there are, of how many accounts, and the latency in ms.
async fn vendor(file: &Path) -> Outcome<()> {
    let plan: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let number = |name: &str| plan.get(name).and_then(Value::as_u64).ok_or("an incomplete plan");
    let accounts = usize::try_from(number("accounts")?)?;
    let identity = pki::Identity::read(&file.with_file_name("server.pem"), &file.with_file_name("server.key"))?;
    let settings = Settings {
        identity: Some(identity),
        connections: (0..number("connections")?).map(|number| Connection::numbered(number, accounts)).collect(),
        latency: Duration::from_millis(number("latency_ms")?),
        ..Settings::default()
    };
    let simulator = Simulator::start(settings).await?;
    say_listening(&simulator.api_url())?;
    std::future::pending().await
}

/// Listens on a free port with room for many at once, as the service does.
fn listen() -> Outcome<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(4096)?;
    say_listening(&listener.local_addr()?.to_string())?;
    Ok(listener)
}

/// In the words of the service.
fn say_listening(address: &str) -> Outcome<()> {
    Ok(writeln!(io::stderr(), "{}", json!({ "message": "listening", "address": address }))?)
}
