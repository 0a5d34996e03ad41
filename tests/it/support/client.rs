//! A caller that writes what it likes, over real TLS.

use super::LIMIT;
use double::pki::Authority;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The public listener, as a caller sees it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Door {
    /// Trusts this authority's certificates.
    pub(crate) fn new(address: SocketAddr, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in authority.identity().certificates().unwrap() {
            roots.add(certificate).unwrap();
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, tls: Arc::new(tls) }
    }

    pub(crate) async fn try_connect(&self) -> io::Result<Client> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
        Ok(Client(BufStream::new(tls)))
    }

    pub(crate) async fn connect(&self) -> Client {
        timeout(LIMIT, self.try_connect()).await.expect("a connection in time").unwrap()
    }

    /// One request, written out in full, on a connection of its own.
    pub(crate) async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await.unwrap();
        client.answer().await.expect("an answer")
    }

    /// An HTTP/2 connection, its preface and settings sent.
    pub(crate) async fn connect_http2(&self) -> Client {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = Self { address: self.address, tls: Arc::new(tls) }.connect().await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        client
    }

    /// Sends what stands behind the preface of an HTTP/2 connection, byte by byte as it is; returns what came back.
    pub(crate) async fn exchange_http2(&self, frames: &[u8]) -> Vec<u8> {
        let mut client = self.connect_http2().await;
        client.send(frames).await.unwrap();
        client.0.shutdown().await.unwrap();
        let mut answers = Vec::new();
        // How the connection ends does not matter.
        timeout(LIMIT, client.0.read_to_end(&mut answers)).await.expect("an end in time").ok();
        answers
    }

    /// Posts a body to the default path on a connection of its own.
    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.exchange(request(body)).await
    }

    /// Posts what must be accepted.
    pub(crate) async fn accept(&self, body: impl AsRef<[u8]>) {
        let answer = self.post(body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// A request that posts a body to the default path.
pub(crate) fn request(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "POST /webhooks/linxo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// One kept connection.
pub(crate) struct Client(BufStream<TlsStream<TcpStream>>);

impl Client {
    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref()).await?;
        self.0.flush().await
    }

    /// Posts a body to the default path and reads the answer.
    pub(crate) async fn post(&mut self, body: impl AsRef<[u8]>) -> io::Result<Answer> {
        self.send(request(body)).await?;
        self.answer().await
    }

    /// The next answer; an error when the connection ends without one.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        timeout(LIMIT, Answer::read(&mut self.0)).await.expect("an answer in time")
    }

    /// The stream below, for whoever reads and writes at the same time.
    pub(crate) fn into_stream(self) -> TlsStream<TcpStream> {
        self.0.into_inner()
    }

    /// Says goodbye without reading what was answered.
    pub(crate) async fn hang_up(mut self) {
        self.0.shutdown().await.unwrap();
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Self { status, head, body: String::new() };
        if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await?;
            answer.body = String::from_utf8(body).unwrap();
        }
        Ok(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The problem document.
    pub(crate) fn problem(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem
    }

    /// Whether this is how the service speaks of its own trouble.
    pub(crate) fn is_our_trouble(&self) -> bool {
        let seconds = self.header("retry-after").and_then(|value| value.parse::<u32>().ok());
        self.status == 503 && seconds.is_some_and(|seconds| seconds >= 1)
    }
}

/// Asks the admin listener.
pub(crate) async fn admin(address: SocketAddr, path: &str, token: Option<&str>) -> Answer {
    let ask = async {
        let mut stream = BufStream::new(TcpStream::connect(address).await?);
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{token}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        Answer::read(&mut stream).await
    };
    timeout(LIMIT, ask).await.expect("an answer in time").unwrap()
}
