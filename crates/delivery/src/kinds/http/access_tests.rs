//! How the HTTP sink shows who it is, over real TLS: token, headers, client certificate; and the way through a proxy.

use super::*;
use crate::{Failure, fixture, kinds::Kind};
use ::settings::{Given, Pair};
use base::secret::Secret;
use double::pki::{self, Authority};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use std::{fs, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Files of an authority, and of a client that it knows.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("test").unwrap() };
        fs::write(files.at("ca"), files.authority.certificate_pem()).unwrap();
        files.renew("client");
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes another certificate for the client, with its key.
    fn renew(&self, common_name: &str) {
        let identity = self.authority.client::<&str>(common_name, &[]).unwrap();
        for name in ["client.pem", "client.key"] {
            fs::remove_file(self.at(name)).unwrap_or_default();
        }
        pki::write_identity(&self.at("client.pem"), &self.at("client.key"), &identity).unwrap();
    }

    /// An HTTPS endpoint that takes everything, and tells the head of each request and the certificate behind it.
    async fn endpoint(&self, must_show: bool) -> (u16, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
        let identity = self.authority.server(&["localhost"]).unwrap();
        let mut roots = RootCertStore::empty();
        for certificate in self.authority.identity().certificates().unwrap() {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = if must_show { verifier } else { verifier.allow_unauthenticated() };
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(identity.certificates().unwrap(), identity.key().unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let shown = socket.get_ref().1.peer_certificates().map_or(Vec::new(), |chain| chain[0].to_vec());
                    let mut socket = BufReader::new(socket);
                    while let Some(head) = head(&mut socket).await {
                        let mut body = vec![0; length(&head)];
                        socket.read_exact(&mut body).await.unwrap();
                        tell.send((head, shown.clone())).unwrap();
                        socket.write_all(OK).await.unwrap();
                        socket.flush().await.unwrap();
                    }
                });
            }
        });
        (port, told)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings {
            url: format!("https://localhost:{port}/hook"),
            signed: false,
            secrets: Vec::new(),
            timeout: Duration::from_secs(5),
            bearer: None,
            headers: Vec::new(),
            certificate: None,
            key: None,
            authorities: vec![self.at("ca")],
            proxy: None,
            proxy_credentials: None,
        }
    }
}

/// The head of a request in small letters, without the empty line behind it.
async fn head(socket: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(head.to_ascii_lowercase())
}

fn length(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.map_or(0, |value| value.parse().unwrap())
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

async fn deliver(settings: &Settings) -> Result<(), Failure> {
    match Http::new(settings).unwrap().deliver(&fixture::whole("e1", b"{}")).await {
        Ok(()) => Ok(()),
        Err(Error::Failed(failure)) => Err(failure),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn shows_its_token_and_its_headers_and_never_instead_of_ours() {
    let files = Files::new();
    let (port, mut requests) = files.endpoint(false).await;
    let pair = |name: &str, value: Given| Pair { name: name.to_owned(), value };
    let settings = Settings {
        bearer: Some(secret("canary-token")),
        headers: vec![
            pair("X-Team", Given::Text("bank data".to_owned())),
            pair("X-Api-Key", Given::Secret(Secret::new("canary-key".to_owned()))),
            // The configuration refuses it; even so it would change nothing.
            pair("ce-id", Given::Text("forged".to_owned())),
        ],
        ..files.settings(port)
    };
    deliver(&settings).await.unwrap();
    let (head, _) = requests.recv().await.unwrap();
    for line in ["authorization: bearer canary-token", "x-team: bank data", "x-api-key: canary-key", "ce-id: e1"] {
        assert_eq!(head.lines().filter(|found| found == &line).count(), 1, "{line}: {head}");
    }
    assert!(!head.contains("forged"), "{head}");
    let sink = Http::new(&settings).unwrap();
    assert!(!format!("{settings:?} {sink:?}").contains("canary"), "{sink:?}");
}

#[tokio::test]
async fn shows_its_certificate_and_the_next_one_after_it_was_exchanged() {
    let files = Files::new();
    let (port, mut requests) = files.endpoint(true).await;
    let without = files.settings(port);
    let reason = deliver(&without).await.unwrap_err().reason;
    assert!(
        reason.ends_with("the endpoint asks for a client certificate: set the sink's certificate and key"),
        "{reason}"
    );
    let with = Settings { certificate: Some(files.at("client.pem")), key: Some(files.at("client.key")), ..without };
    let watched = Kind::Http(with.clone());
    assert_eq!(watched.files(), ["ca", "client.pem", "client.key"].map(|name| files.at(name)));
    let mut shown = Vec::new();
    for name in ["client", "another"] {
        files.renew(name);
        deliver(&with).await.unwrap();
        shown.push(requests.recv().await.unwrap().1);
    }
    assert!(shown[0] != shown[1] && !shown[0].is_empty());
}

#[test]
fn a_key_that_is_not_the_certificates_is_told_before_anything_is_sent() {
    let files = Files::new();
    let key = fs::read(files.at("client.key")).unwrap();
    files.renew("another");
    fs::write(files.at("other.key"), key).unwrap();
    fs::write(files.at("no.key"), "no key").unwrap();
    let open = |key: &str| {
        let (certificate, key) = (Some(files.at("client.pem")), Some(files.at(key)));
        Http::new(&Settings { certificate, key, ..files.settings(1) }).map_err(|problem| chain(&problem))
    };
    open("client.key").unwrap();
    let told = open("other.key").unwrap_err();
    assert!(told.contains("client.pem and the key in") && told.contains("cannot be used together"), "{told}");
    let told = open("no.key").unwrap_err();
    assert!(told.contains("no.key cannot be read as PEM"), "{told}");
}

/// A proxy that asks for these credentials, if any, and tells the head of each request.
async fn proxy(credentials: Option<&'static str>, answer: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut socket = BufReader::new(socket);
                let Some(head) = head(&mut socket).await else { return };
                let is_known = credentials.is_none_or(|text| head.contains(&text.to_ascii_lowercase()));
                let target = head.split(' ').nth(1).unwrap().to_owned();
                tell.send(head).unwrap();
                if !is_known {
                    socket.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                    return;
                }
                socket.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.unwrap();
                if answer.starts_with("200") {
                    let mut behind = TcpStream::connect(target).await.unwrap();
                    // Either side may close first.
                    tokio::io::copy_bidirectional(&mut socket, &mut behind).await.unwrap_or_default();
                }
            });
        }
    });
    (url, told)
}

#[tokio::test]
async fn goes_through_the_proxy_encrypted_up_to_the_endpoint() {
    let files = Files::new();
    let (port, mut requests) = files.endpoint(true).await;
    // `user:canary` in base64.
    let (url, mut heads) = proxy(Some("proxy-authorization: basic dXNlcjpjYW5hcnk="), "200 OK").await;
    let settings = Settings {
        proxy: Some(url),
        proxy_credentials: Some(secret("user:canary")),
        bearer: Some(secret("token")),
        certificate: Some(files.at("client.pem")),
        key: Some(files.at("client.key")),
        ..files.settings(port)
    };
    deliver(&settings).await.unwrap();
    let (request, shown) = requests.recv().await.unwrap();
    assert!(request.contains("authorization: bearer token") && !request.contains("proxy-authorization"), "{request}");
    assert!(!shown.is_empty());
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with(&format!("connect localhost:{port} ")), "{head}");
    assert!(!head.contains("bearer") && !head.contains("ce-id") && !head.contains("/hook"), "{head}");
    // What `check --online` does goes the same way, and sends the endpoint nothing.
    let server = Opens::server(&settings).unwrap();
    server.reach.await.unwrap();
    assert!(heads.recv().await.unwrap().starts_with("connect localhost:"));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn says_what_is_wrong_with_the_proxy() {
    let files = Files::new();
    let (port, _requests) = files.endpoint(false).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, credentials, told) in [
        (
            proxy(Some("basic xyz"), "200 OK").await.0,
            Some(secret("user:canary")),
            "the proxy asks for other credentials: see to the sink's proxy_credentials",
        ),
        (
            proxy(None, "403 Forbidden").await.0,
            None,
            "the proxy does not connect to the endpoint: see to the rules of the proxy",
        ),
        (format!("http://{closed}"), None, "the proxy cannot be reached: connection refused"),
    ] {
        let settings = Settings { proxy: Some(url), proxy_credentials: credentials, ..files.settings(port) };
        let failure = deliver(&settings).await.unwrap_err();
        assert_eq!(failure, Failure::transient(format!("could not connect: {told}")));
    }
}
