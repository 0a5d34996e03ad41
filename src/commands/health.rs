//! `health`: asks the running server how it is, for a container's health check and for scripts.
//!
//! One request to the configured admin address, two seconds at most. Plain HTTP by hand: a full client would load the
//! system's certificates on every probe.

use super::{Failure, Global};
use base::text::printable;
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::TcpStream, time};

/// For everything.
const TIME: Duration = Duration::from_secs(2);
/// Of the answer's body.
const LONGEST: usize = 64 * 1024;

/// Options of `health`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Ask only whether the process lives, not whether it is ready
    #[arg(long)]
    pub live: bool,
}

/// Asks, and prints one line.
///
/// # Errors
/// 75 when the server does not answer or is not ready, 78 when the configuration has no admin listener to ask.
pub async fn run(global: &Global, args: Args) -> Result<(), Failure> {
    let config = global.load()?;
    let Some(address) = config.admin.address else {
        return Err(Failure::configuration(
            "there is nobody to ask: admin.address is \"off\"\nhint: give it an address, such as 127.0.0.1:9090",
        ));
    };
    if address.port() == 0 {
        return Err(Failure::configuration(
            "admin.address has port 0, so the real one is not known here\nhint: configure a fixed port",
        ));
    }
    let word = ask(reachable(address), args.live).await.map_err(Failure::not_now)?;
    writeln!(io::stdout(), "{word}")?;
    Ok(())
}

/// An address to connect to for one to listen on: "every address" becomes loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    reasons: Vec<String>,
}

/// The word to print when all is well, else one line that says what is not.
async fn ask(address: SocketAddr, live: bool) -> Result<&'static str, String> {
    let (path, word) = if live { ("/livez", "alive") } else { ("/readyz", "ready") };
    let (status, body) = time::timeout(TIME, get(address, path))
        .await
        .map_err(|_elapsed| format!("the server at {address} did not answer within {TIME:?}"))??;
    if status == StatusCode::OK {
        return Ok(word);
    }
    let reasons = serde_json::from_slice::<Answer>(&body).unwrap_or_default().reasons;
    let reasons = if reasons.is_empty() { format!("it answered {status}") } else { reasons.join("; ") };
    Err(format!("not {word}: {}", printable(&reasons)))
}

async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), String> {
    let socket = TcpStream::connect(address).await.map_err(|error| format!("nobody answers at {address}: {error}\nhint: start the service; the address is admin.address of the configuration"))?;
    let broken = |error: &dyn std::fmt::Display| format!("the server at {address} did not answer in HTTP: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| broken(&error))?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| broken(&error))?;
        Ok((status, body.to_bytes()))
    };
    let exchange = std::pin::pin!(exchange);
    let connection = std::pin::pin!(connection);
    match futures_util::future::select(exchange, connection).await {
        futures_util::future::Either::Left((answer, _)) => answer,
        // The connection may end together with the answer, which is then there to be read.
        futures_util::future::Either::Right((_, exchange)) => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin,
        observe::{metrics as exposed, readiness::Readiness},
    };
    use inbox::double::Double;
    use std::sync::Arc;
    use tokio::{io::AsyncWriteExt, net::TcpListener};
    use tokio_util::sync::CancellationToken;

    #[test]
    fn connects_to_loopback_where_the_server_listens_everywhere() {
        for (listening, asked) in
            [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("10.1.2.3:9090", "10.1.2.3:9090")]
        {
            assert_eq!(reachable(listening.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn tells_alive_from_ready() {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = admin::bind(address, None).await.unwrap();
        let (address, readiness) = (bound.address(), Readiness::new(CancellationToken::new()));
        let double = Arc::new(Double::default());
        let mut registry = exposed::registry();
        let state = admin::State {
            intake: Arc::<Double>::clone(&double),
            upkeep: double,
            inbox: inbox::Figures::new(&mut registry, inbox::Limits::default()),
            figures: admin::Figures::new(&mut registry),
            exposition: Arc::new(exposed::Exposition::new(registry)),
            readiness: readiness.clone(),
            hindrance: admin::Hindrance::default(),
        };
        tokio::spawn(bound.serve(state, CancellationToken::new()));
        assert_eq!(ask(address, true).await, Ok("alive"));
        assert_eq!(ask(address, false).await, Err("not ready: starting".to_owned()));
        readiness.set_ready();
        assert_eq!(ask(address, false).await, Ok("ready"));
    }

    #[tokio::test]
    async fn says_in_one_line_that_nobody_or_somebody_else_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let other = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        });
        let junk = ask(address, false).await.unwrap_err();
        assert!(junk.starts_with("the server at 127.0.0.1:") && !junk.contains('\n'), "{junk}");
        other.await.unwrap();
        assert!(ask(address, false).await.unwrap_err().starts_with("nobody answers at 127.0.0.1:"));
    }
}
