//! The HTTP sink against real servers on real sockets.

use super::*;
use crate::{
    contract::{Place, contract},
    fixture,
    kinds::{Kind, stdout},
    sink::{Failure, FailureKind},
    slot::Slot,
};
use axum::{Router, extract::State, response::IntoResponse, routing::any};
use base::names::SinkName;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use std::{fs, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDDVkTHDbtZPg="];

/// One request as the endpoint saw it.
struct Seen {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone)]
struct Endpoint {
    status: StatusCode,
    headers: HeaderMap,
    seen: mpsc::UnboundedSender<Seen>,
}

/// An endpoint that answers everything alike and tells what it saw.
async fn endpoint(status: u16, headers: &[(&'static str, &str)]) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let (seen, requests) = mpsc::unbounded_channel();
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    let state = Endpoint { status: StatusCode::from_u16(status).unwrap(), headers, seen };
    let answer = |State(endpoint): State<Endpoint>, method: Method, headers: HeaderMap, body: Bytes| async move {
        endpoint.seen.send(Seen { method, headers, body }).unwrap();
        (endpoint.status, endpoint.headers, "canary-answer").into_response()
    };
    let app = Router::new().fallback(any(answer)).layer(axum::extract::DefaultBodyLimit::disable()).with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?key=canary-key", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, requests)
}

fn settings(url: &str, secrets: &[&str]) -> Settings {
    Settings {
        url: url.to_owned(),
        signed: !secrets.is_empty(),
        secrets: secrets.iter().map(|text| base::secret::Secret::new((*text).to_owned())).collect(),
        timeout: Duration::from_secs(5),
        bearer: None,
        headers: Vec::new(),
        certificate: None,
        key: None,
        authorities: Vec::new(),
        proxy: None,
        proxy_credentials: None,
    }
}

fn sink(url: &str, secrets: &[&str]) -> Http {
    Http::new(&settings(url, secrets)).unwrap()
}

/// What comes of a delivery that fails.
async fn refused(sink: Http) -> Failure {
    match sink.deliver(&fixture::whole("e1", b"{}")).await {
        Err(Error::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

async fn failure(status: u16, headers: &[(&'static str, &str)]) -> Failure {
    let (url, _requests) = endpoint(status, headers).await;
    let failure = refused(sink(&url, &[])).await;
    assert!(!failure.reason.contains("canary"), "{}", failure.reason);
    failure
}

#[tokio::test]
async fn posts_the_very_bytes_with_attributes_and_signatures() {
    let (url, mut requests) = endpoint(204, &[]).await;
    let body = b"{ \"amount\" : 10000.50,\n \"iban\":\"x\" }\n";
    sink(&url, &SECRETS).deliver(&fixture::whole("abc 123", body)).await.unwrap();
    let seen = requests.recv().await.unwrap();
    assert_eq!(seen.method, Method::POST);
    assert_eq!(&seen.body[..], body);
    let header = |name: &str| seen.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("content-length"), body.len().to_string());
    assert_eq!(header("user-agent"), format!("linxo-webhook/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("ce-id"), "abc%20123");
    assert_eq!(header("ce-subject"), "123");
    assert_eq!(header("webhook-id"), "abc%20123");
    for secret in SECRETS {
        standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
    }
}

#[tokio::test]
async fn streams_pages_with_their_exact_length_and_signature() {
    let (url, mut requests) = endpoint(200, &[]).await;
    let (delivery, json) = fixture::paged("e1", 30, 500);
    sink(&url, &SECRETS[..1]).deliver(&delivery).await.unwrap();
    let seen = requests.recv().await.unwrap();
    assert_eq!(seen.body, json);
    assert_eq!(seen.headers["content-length"].to_str().unwrap(), json.len().to_string());
    assert!(!seen.headers.contains_key("transfer-encoding"));
    standardwebhooks::Webhook::new(SECRETS[0]).unwrap().verify(&seen.body, &seen.headers).unwrap();
}

#[tokio::test]
async fn leaves_the_signature_out_without_a_secret() {
    let (url, mut requests) = endpoint(200, &[]).await;
    sink(&url, &[]).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    let seen = requests.recv().await.unwrap();
    assert_eq!(seen.headers["webhook-id"], "e1");
    assert!(!seen.headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn replaced_secrets_sign_what_comes_next() {
    let (url, mut requests) = endpoint(200, &[]).await;
    let kind = |secret| Kind::Http(settings(&url, &[secret]));
    let configured = |secret| crate::Settings {
        name: SinkName::new("app"),
        retry_for: Duration::from_hours(1),
        retry_first: Duration::from_secs(1),
        retry_longest: Duration::from_mins(15),
        concurrency: None,
        resumes: true,
        drops_stale: false,
        is_strict: false,
        kind: kind(secret),
        filter: None,
        merge: None,
    };
    let slot = Slot::open(&configured(SECRETS[0])).unwrap();
    assert!(kind(SECRETS[0]).may_become(&kind(SECRETS[1])));
    assert!(!kind(SECRETS[0]).may_become(&Kind::Stdout(stdout::Settings {})));
    assert!(!Kind::Stdout(stdout::Settings {}).may_become(&Kind::Stdout(stdout::Settings {})));
    slot.replace(crate::open(&configured(SECRETS[1])).unwrap());
    let weak = crate::open(&configured("whsec_c2hvcnQ=")).err().unwrap();
    assert_eq!(weak.to_string(), "cannot open the sink app");
    slot.deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    let seen = requests.recv().await.unwrap();
    standardwebhooks::Webhook::new(SECRETS[1]).unwrap().verify(&seen.body, &seen.headers).unwrap();
    standardwebhooks::Webhook::new(SECRETS[0]).unwrap().verify(&seen.body, &seen.headers).unwrap_err();
}

#[tokio::test]
async fn maps_answers_to_decisions() {
    let transient = |after: Option<u64>| FailureKind::Transient { after: after.map(Duration::from_secs) };
    for (status, headers, kind) in [
        (410, vec![], FailureKind::Gone),
        (429, vec![("retry-after", "7")], FailureKind::Busy { after: Some(Duration::from_secs(7)) }),
        (429, vec![], FailureKind::Busy { after: None }),
        (503, vec![("retry-after", "99999")], transient(Some(3600))),
        (503, vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], transient(Some(0))),
        (503, vec![("retry-after", "canary")], transient(None)),
        (500, vec![("retry-after", "7")], transient(None)),
        (408, vec![], transient(None)),
        (425, vec![], transient(None)),
        (599, vec![], transient(None)),
        (400, vec![], FailureKind::Refused { status: Some(400) }),
        (404, vec![], FailureKind::Refused { status: Some(404) }),
        (413, vec![("retry-after", "7")], FailureKind::Refused { status: Some(413) }),
        (414, vec![], FailureKind::Refused { status: Some(414) }),
        (431, vec![], FailureKind::Refused { status: Some(431) }),
        (301, vec![("location", "http://canary.invalid/")], FailureKind::Refused { status: Some(301) }),
    ] {
        assert_eq!(failure(status, &headers).await.kind, kind, "{status}");
    }
}

#[tokio::test]
async fn says_what_happened_in_words_without_the_url() {
    assert_eq!(failure(404, &[]).await.reason, "the endpoint answered 404 Not Found");
    assert_eq!(failure(599, &[]).await.reason, "the endpoint answered 599");
    let redirect = failure(302, &[("location", "/elsewhere")]).await.reason;
    assert_eq!(redirect, "the endpoint answered 302 Found; redirects are not followed, correct the sink's url");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let closed = refused(sink(&format!("http://{closed}/"), &[])).await;
    assert_eq!(closed.reason, "could not connect: connection refused");
    let unknown = refused(sink("http://canary.invalid/", &[])).await;
    assert_eq!(unknown.reason, "could not connect: the host name could not be resolved");
    let odd = refused(sink("http://metadata.test/", &[])).await;
    assert_eq!(
        odd.reason,
        "could not connect: the host name leads to an address that is never connected to: it is a link-local address, as the metadata services of clouds have"
    );
}

/// (B9) What the endpoint cannot take for its size says so, and what to do.
#[tokio::test]
async fn says_what_is_too_large_for_the_endpoint() {
    for (status, reason) in [
        (
            413,
            "the endpoint answered 413 Payload Too Large; the event is too large for it: raise its limit on the size of bodies, \
             then replay the entry",
        ),
        (
            414,
            "the endpoint answered 414 URI Too Long; the sink's url is too long for it: shorten the url, or raise the \
             endpoint's limit",
        ),
        (
            431,
            "the endpoint answered 431 Request Header Fields Too Large; the head of the request, with the attributes of the \
             event, is too large for it: raise its limit on the size of heads, then replay the entry",
        ),
    ] {
        assert_eq!(failure(status, &[]).await.reason, reason);
    }
}

/// (B9) An endpoint that answers while the body is still being written, and then closes the connection, is heard.
#[tokio::test]
async fn an_early_refusal_is_seen_although_the_connection_is_closed() {
    let answer = b"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let url = format!("http://{}/", raw_once(answer).await);
    // More than the buffers of both sockets hold, whole and in pieces, signed and not.
    let whole = fixture::whole("e1", vec![b' '; 16 << 20].leak());
    let (pieces, json) = fixture::paged("e1", 300, 1000);
    assert!(json.len() > 8 << 20, "{}", json.len());
    for secrets in [&SECRETS[..], &[]] {
        let sink = sink(&url, secrets);
        for delivery in [&whole, &pieces] {
            match sink.deliver(delivery).await {
                Err(Error::Failed(Failure { kind: FailureKind::Refused { status: Some(413) }, .. })) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A peer that answers after the first bytes of a request, reads nothing more, and closes the connection.
async fn raw_once(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _read = socket.read(&mut head).await;
            socket.write_all(answer).await.unwrap();
        }
    });
    address
}

/// A peer that reads one request's head and then does as it is told.
async fn raw(answer: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _read = socket.read(&mut head).await;
                match answer {
                    Some(bytes) => socket.write_all(bytes).await.unwrap(),
                    None => std::future::pending().await,
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn takes_silence_cut_answers_and_junk_as_passing() {
    let url = format!("http://{}/", raw(None).await);
    let silent = Http::new(&Settings { timeout: Duration::from_millis(200), ..settings(&url, &[]) }).unwrap();
    assert_eq!(refused(silent).await, Failure::transient("timed out after 200ms"));
    for (answer, reason) in [
        (&b""[..], "connection closed"),
        (b"HTTP/1.1 200 O", "connection closed"),
        (b"canary\r\n\r\n", "not an HTTP exchange"),
    ] {
        let url = format!("http://{}/", raw(Some(answer)).await);
        let failure = refused(sink(&url, &[])).await;
        assert_eq!(failure.kind, FailureKind::Transient { after: None });
        assert_eq!(failure.reason, format!("the connection broke before the answer came: {reason}"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_stands_whatever_its_body_does() {
    let url = format!("http://{}/", raw(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nshort")).await);
    sink(&url, &[]).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
}

#[tokio::test]
async fn a_body_that_cannot_be_read_ends_the_delivery_with_and_without_a_signature() {
    let (url, _requests) = endpoint(200, &[]).await;
    for secrets in [&SECRETS[..], &[]] {
        let error = sink(&url, secrets).deliver(&fixture::unreadable("e1", 8, 6)).await.unwrap_err();
        assert!(matches!(error, Error::Unreadable(_)), "{error:?}");
    }
}

#[tokio::test]
async fn trusts_configured_authorities_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&pem, certified.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let mut request = [0; 4096];
                let _read = socket.read(&mut request).await;
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                socket.flush().await.unwrap();
            });
        }
    });
    let open = |host: &str, authorities: &[PathBuf]| {
        let settings = settings(&format!("https://{host}:{port}/"), &[]);
        Http::new(&Settings { authorities: authorities.to_vec(), ..settings })
    };
    let delivery = fixture::whole("e1", b"{}");
    open("localhost", std::slice::from_ref(&pem)).unwrap().deliver(&delivery).await.unwrap();
    // A sink that is opened again reads the file again, although the file has the same name.
    let right = fs::read(&pem).unwrap();
    fs::write(&pem, rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()).unwrap();
    let sink = open("localhost", std::slice::from_ref(&pem)).unwrap();
    sink.deliver(&delivery).await.unwrap_err();
    fs::write(&pem, right).unwrap();
    open("localhost", std::slice::from_ref(&pem)).unwrap().deliver(&delivery).await.unwrap();
    let other_name = refused(open("127.0.0.1", std::slice::from_ref(&pem)).unwrap()).await;
    assert_eq!(
        other_name.reason,
        "could not connect: the endpoint's certificate is not accepted (made for another host name)"
    );
    // An image without CA certificates cannot build a client that trusts the system's.
    if let Ok(stranger) = open("localhost", &[]) {
        let failure = refused(stranger).await;
        assert!(failure.reason.starts_with("could not connect: the endpoint's certificate is not accepted"));
    }
    fs::write(&pem, "no certificate").unwrap();
    assert!(matches!(open("localhost", &[pem]), Err(Problem::NoCertificate { .. })));
}

/// An endpoint that takes everything.
struct Taker(mpsc::UnboundedReceiver<Seen>);

#[async_trait]
impl Place for Taker {
    async fn open() -> (Box<dyn Sink>, Self) {
        let (url, requests) = endpoint(200, &[]).await;
        (Box::new(sink(&url, &[])), Self(requests))
    }

    async fn arrived(mut self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        // What was answered has been seen before.
        std::iter::from_fn(|| self.0.try_recv().ok())
            .map(|seen| (seen.headers["webhook-id"].to_str().unwrap().to_owned(), seen.body.to_vec()))
            .collect()
    }
}

contract!(Taker);
