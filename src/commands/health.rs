//! `health`: asks the running server how it is, for a container's health check and for scripts.
//!
//! One request to the configured admin address, two seconds at most. HTTP by hand: a full client would load the system's
//! certificates on every probe. Over TLS any certificate is taken: nothing secret is said, and a certificate that is being
//! renewed, or is for another name than this address, says nothing about health.

use super::{Failure, Global};
use base::text::printable;
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::Deserialize;
use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsConnector;

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
    let word = ask(reachable(address), config.admin.tls.is_some(), args.live).await.map_err(Failure::not_now)?;
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
async fn ask(address: SocketAddr, is_tls: bool, live: bool) -> Result<&'static str, String> {
    let (path, word) = if live { ("/livez", "alive") } else { ("/readyz", "ready") };
    let (status, body) = time::timeout(TIME, get(address, is_tls, path))
        .await
        .map_err(|_elapsed| format!("the server at {address} did not answer within {TIME:?}"))??;
    if status == StatusCode::OK {
        return Ok(word);
    }
    let reasons = serde_json::from_slice::<Answer>(&body).unwrap_or_default().reasons;
    let reasons = if reasons.is_empty() { format!("it answered {status}") } else { reasons.join("; ") };
    Err(format!("not {word}: {}", printable(&reasons)))
}

async fn get(address: SocketAddr, is_tls: bool, path: &str) -> Result<(StatusCode, Bytes), String> {
    let socket = TcpStream::connect(address).await.map_err(|error| format!("nobody answers at {address}: {error}\nhint: start the service; the address is admin.address of the configuration"))?;
    let broken = |error: &dyn std::fmt::Display| format!("the server at {address} did not answer in HTTP: {error}");
    let socket: Box<dyn Stream> = if is_tls {
        let settings = Anybody::settings().map_err(|error| broken(&error))?;
        let name = ServerName::IpAddress(address.ip().into());
        let connecting = TlsConnector::from(Arc::new(settings)).connect(name, socket);
        Box::new(connecting.await.map_err(|error| format!("the server at {address} did not answer in TLS: {error}"))?)
    } else {
        Box::new(socket)
    };
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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Takes the certificate of anybody.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl Anybody {
    fn settings() -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Arc::new(Self(provider.signature_verification_algorithms));
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin,
        config::{Admin, AdminTls, TlsVersion},
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

    /// A listener that answers until the runtime ends.
    async fn listen(settings: &Admin) -> (SocketAddr, Readiness) {
        let guards = admin::Guards::load(settings).unwrap();
        let bound = admin::bind("127.0.0.1:0".parse().unwrap(), guards).await.unwrap();
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
            desk: None,
        };
        tokio::spawn(bound.serve(state, CancellationToken::new()));
        (address, readiness)
    }

    #[tokio::test]
    async fn tells_alive_from_ready() {
        let (address, readiness) = listen(&settings::defaults().unwrap()).await;
        assert_eq!(ask(address, false, true).await, Ok("alive"));
        assert_eq!(ask(address, false, false).await, Err("not ready: starting".to_owned()));
        readiness.set_ready();
        assert_eq!(ask(address, false, false).await, Ok("ready"));
        assert!(ask(address, true, true).await.unwrap_err().contains("did not answer in TLS"));
    }

    #[tokio::test]
    async fn asks_over_tls_whatever_the_certificate_says() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let other = double::pki::Authority::new("Other").unwrap().server(&["other.example"]).unwrap();
        double::pki::write_identity(&certificate, &key, &other).unwrap();
        let tls = AdminTls {
            certificate,
            key,
            minimum_version: TlsVersion::V1_3,
            authorities: Vec::new(),
            revocations: Vec::new(),
            read: Vec::new(),
            act: Vec::new(),
        };
        let (address, _) = listen(&Admin { tls: Some(tls), ..settings::defaults().unwrap() }).await;
        assert_eq!(ask(address, true, true).await, Ok("alive"));
        assert!(ask(address, false, true).await.is_err());
    }

    #[tokio::test]
    async fn says_in_one_line_that_nobody_or_somebody_else_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let other = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        });
        let junk = ask(address, false, false).await.unwrap_err();
        assert!(junk.starts_with("the server at 127.0.0.1:") && !junk.contains('\n'), "{junk}");
        other.await.unwrap();
        assert!(ask(address, false, false).await.unwrap_err().starts_with("nobody answers at 127.0.0.1:"));
    }
}
