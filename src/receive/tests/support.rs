//! A receiver on a free port, a scripted inbox behind it, and callers that can misbehave.

use crate::{
    observe::{
        metrics::{self, Exposition},
        traces::Tracer,
    },
    receive::{
        Drained, Figures, Receiver, bind, inherit,
        intake::Intake,
        settings::{self, ClientMode, ClientUsage, TlsClients, TlsVersion},
        tls,
    },
};
use ::settings::Networks;
use base::secret::Secret;
use double::pki::{self, Authority};
pub(super) use inbox::double::{Double, Script};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes this long; it only turns a hang into a failure.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
pub(super) const EVENT: &str = r#"{"id":"e-1","event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":1700000000,"resource":{"id":"c-1","user_id":"u-1","account_count":0,"accounts":[]}}"#;

/// How a test wants its receiver.
pub(super) struct Wanted {
    pub(super) listener: settings::Listener,
    pub(super) networks: Networks,
    pub(super) secrets: Vec<&'static str>,
    pub(super) minimum_version: TlsVersion,
    /// Whose client certificates are accepted; `None`: none is asked for.
    pub(super) clients: Option<Clients>,
    pub(super) commit_timeout: Duration,
    pub(super) tracer: Tracer,
    /// Handed over in place of an address.
    pub(super) socket: Option<std::net::TcpListener>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            listener: settings::Listener {
                address: Some(([127, 0, 0, 1], 0).into()),
                is_address_given: true,
                path: "/webhooks/linxo".to_owned(),
                max_body: 64 * 1024,
                max_head: 64 * 1024,
                max_headers: 100,
                max_connections: 64,
                max_connections_per_address: 64,
                max_handshakes: 64,
                max_requests: 64,
                body_memory: 1024 * 1024,
                http2_streams: 128,
                handshake_timeout: LIMIT,
                header_timeout: LIMIT,
                body_timeout: LIMIT,
                idle_timeout: LIMIT,
                drain_timeout: LIMIT,
                proxy_protocol: false,
                proxy_networks: Networks::default(),
            },
            networks: Networks::default(),
            secrets: Vec::new(),
            minimum_version: TlsVersion::V1_2,
            clients: None,
            commit_timeout: LIMIT,
            tracer: Tracer::default(),
            socket: None,
        }
    }
}

/// PEM texts and lists of `[tls.clients]`.
#[derive(Clone, Default)]
pub(super) struct Clients {
    pub(super) observe: bool,
    pub(super) authorities: Vec<String>,
    pub(super) revocations: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) subjects: Vec<String>,
    pub(super) fingerprints: Vec<String>,
    /// Whether certificates that are made only for servers are accepted too.
    pub(super) any_usage: bool,
}

impl Clients {
    pub(super) fn of(authorities: &[&Authority]) -> Self {
        let authorities = authorities.iter().map(|authority| authority.certificate_pem().to_owned()).collect();
        Self { authorities, ..Self::default() }
    }

    fn settings(&self, folder: &Path) -> TlsClients {
        let put = |kind: &str, texts: &[String]| {
            let write = |(number, text)| {
                let path = folder.join(format!("{kind}-{number}.pem"));
                std::fs::write(&path, text).unwrap();
                path
            };
            texts.iter().enumerate().map(write).collect()
        };
        TlsClients {
            mode: if self.observe { ClientMode::Observe } else { ClientMode::Required },
            authorities: put("authority", &self.authorities),
            revocations: put("revocations", &self.revocations),
            usage: if self.any_usage { ClientUsage::Any } else { ClientUsage::Client },
            names: self.names.clone(),
            subjects: self.subjects.clone(),
            fingerprints: self.fingerprints.clone(),
        }
    }
}

/// A running receiver.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) inbox: Arc<Double>,
    pub(super) metrics: Arc<Exposition>,
    pub(super) receiver: Arc<Receiver>,
    roots: Arc<RootCertStore>,
    folder: tempfile::TempDir,
    settings: settings::Tls,
    stop: CancellationToken,
    served: JoinHandle<Drained>,
}

impl Site {
    pub(super) async fn start(wanted: Wanted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let off = ::settings::defaults().unwrap();
        let settings = settings::Tls {
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            may_generate: true,
            minimum_version: wanted.minimum_version,
            clients: wanted.clients.map_or(off, |clients| clients.settings(folder.path())),
        };
        let identity = pki::self_signed_localhost().unwrap();
        pki::write_identity(&settings.certificate, &settings.key, &identity).unwrap();
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(&settings.certificate).unwrap();
        roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap()).unwrap();
        let inbox = Arc::new(Double::default());
        let mut registry = metrics::registry();
        let figures = Figures::new(&mut registry, crate::observe::metrics::Latest::default());
        let metrics = Arc::new(Exposition::new(registry));
        let sender = settings::Sender {
            confirm: false,
            networks: wanted.networks,
            path_secrets: wanted.secrets.iter().map(|text| Secret::new((*text).to_owned())).collect(),
        };
        let loaded = tls::load(&settings).unwrap();
        let intake = Intake::new(Arc::<Double>::clone(&inbox));
        let (listener, within) = (&wanted.listener, wanted.commit_timeout);
        let receiver = Arc::new(Receiver::with_commit_timeout(
            listener,
            &sender,
            loaded,
            intake,
            (figures, wanted.tracer),
            within,
        ));
        let bound = match wanted.socket {
            Some(socket) => inherit(socket).unwrap(),
            None => bind(&wanted.listener).await.unwrap(),
        };
        let address = bound.address();
        let stop = CancellationToken::new();
        let served = tokio::spawn(bound.serve(Arc::clone(&receiver), stop.clone()));
        Self { address, inbox, metrics, receiver, roots: Arc::new(roots), folder, settings, stop, served }
    }

    /// Judges callers by other settings from now on.
    pub(super) fn reload(&self, clients: &Clients) {
        let settings = settings::Tls { clients: clients.settings(self.folder.path()), ..self.settings.clone() };
        self.receiver.replace_tls(tls::load(&settings).unwrap());
    }

    /// Begins the drain.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) async fn stopped(self) -> Drained {
        timeout(LIMIT, self.served).await.expect("the drain ends").unwrap()
    }

    pub(super) fn client_builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        self.client_builder_for(&[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    pub(super) fn client_builder_for(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
    }

    pub(super) async fn tls(&self, config: ClientConfig, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_behind(b"", config, alpn).await
    }

    /// TLS behind some bytes, as a balancer sends them.
    pub(super) async fn tls_behind(
        &self,
        header: &[u8],
        config: ClientConfig,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut tcp = TcpStream::connect(self.address).await?;
        tcp.write_all(header).await?;
        shake_hands(tcp, config, alpn).await
    }

    /// An HTTP/1.1 connection.
    pub(super) async fn connect(&self) -> Client {
        let stream = self.tls(self.client_builder().with_no_client_auth(), b"http/1.1").await.unwrap();
        Client(stream)
    }

    /// One request on a connection of its own.
    pub(super) async fn exchange(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await.expect("an answer")
    }

    /// Value of one line of the metrics.
    pub(super) fn metric(&self, line: &str) -> u64 {
        metric(&self.metrics, line)
    }
}

/// Waits for a state.
pub(super) async fn wait_for(what: impl Fn() -> bool) {
    let reached = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LIMIT, reached).await.expect("the state is reached in time");
}

/// Value of one line of the metrics.
pub(super) fn metric(metrics: &Exposition, line: &str) -> u64 {
    let text = metrics.encode();
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// TLS on a socket that is open already; no protocol is offered where `alpn` is empty.
pub(super) async fn shake_hands(
    tcp: TcpStream,
    mut config: ClientConfig,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    config.alpn_protocols = Some(alpn.to_vec()).filter(|alpn| !alpn.is_empty()).into_iter().collect();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

/// A caller that writes what it likes.
pub(super) struct Client(pub(super) TlsStream<TcpStream>);

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// `code` of the problem document.
    pub(super) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).expect("a problem document");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"].as_str().unwrap().len(), 16);
        problem["code"].as_str().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next answer; `None` when the connection ends without one.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        timeout(LIMIT, self.read()).await.expect("an answer in time")
    }

    async fn read(&mut self) -> Option<Answer> {
        let mut text = Vec::new();
        let end = loop {
            if let Some(at) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            match self.0.read_u8().await {
                Ok(byte) => text.push(byte),
                Err(_end) => return None,
            }
        };
        let head = String::from_utf8(text[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// Whether the connection ends without a further byte.
    pub(super) async fn is_closed(&mut self) -> bool {
        let read = timeout(LIMIT, self.0.read_u8()).await.expect("the end of the connection in time");
        read.is_err()
    }
}

pub(super) fn post_to(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn post(body: &str) -> String {
    post_to("/webhooks/linxo", "content-type: application/json\r\n", body)
}
