//! The NATS sink against real servers.

use super::{
    sink::{Nats, reach},
    *,
};
use crate::{
    Sink,
    broker::testing::{
        self, Pki, Proxy, TRANSIENT, Way, check_all, deliver_all, failure, failure_of, refused, shared, size, unique,
        until,
    },
    contract::{self, Place, contract},
    fixture,
    tls::Tls,
};
use ::settings::{Given, Pair, urls};
use async_nats::jetstream::{self, stream};
use async_trait::async_trait;
use base::secret::Secret;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use double::servers::Program;
use nkeys::KeyPair;
use std::{fs, path::PathBuf, sync::Arc, sync::atomic::Ordering, time::Duration};

const SCHEMES: urls::Schemes = urls::Schemes { encrypted: ("tls", 4222), plain: ("nats", 4222) };
/// A pair of keys that anybody may know.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

fn settings(server: &str, subject: &str) -> Settings {
    let server = if server.contains("://") { server.to_owned() } else { format!("nats://{server}") };
    Settings {
        servers: vec![urls::server(&server, &SCHEMES).unwrap()],
        subject: crate::template::subject(subject).unwrap(),
        headers: Vec::new(),
        user: None,
        password: None,
        token: None,
        nkey: None,
        credentials: None,
        timeout: Duration::from_secs(20),
        max_message: 8 << 20,
        tls: Tls { authorities: Vec::new(), certificate: None, key: None },
    }
}

fn sink(settings: &Settings) -> Nats {
    Nats::new(settings).unwrap()
}

/// A stream of a test's own.
struct Stream {
    context: jetstream::Context,
    name: String,
}

impl Stream {
    async fn new(server: &str, change: impl FnOnce(&mut stream::Config)) -> Self {
        Self::by(async_nats::ConnectOptions::new(), server, change).await
    }

    async fn by(options: async_nats::ConnectOptions, server: &str, change: impl FnOnce(&mut stream::Config)) -> Self {
        let name = unique();
        let context = jetstream::new(options.connect(server).await.unwrap());
        let mut config =
            stream::Config { name: name.clone(), subjects: vec![format!("{name}.>")], ..stream::Config::default() };
        change(&mut config);
        until("there is JetStream", || async { context.create_stream(config.clone()).await.ok() }).await;
        Self { context, name }
    }

    async fn messages(&self) -> Vec<jetstream::message::StreamMessage> {
        let mut stream = self.context.get_stream(&self.name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut messages = Vec::new();
        for number in state.first_sequence.max(1)..=state.last_sequence {
            messages.push(stream.get_raw_message(number).await.unwrap());
        }
        messages
    }

    async fn remove(self) {
        self.context.delete_stream(&self.name).await.unwrap();
    }
}

/// A server of a test's own, with these lines in its configuration.
async fn own(lines: &str) -> Program {
    testing::own("nats-server", |folder, port| {
        let config = folder.join("nats.conf");
        let store = folder.join("store").display().to_string();
        fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?} }}\n{lines}\n"))
            .unwrap();
        vec!["-c".to_owned(), config.display().to_string()]
    })
    .await
}

fn id(message: &jetstream::message::StreamMessage) -> String {
    message.headers.get("Nats-Msg-Id").unwrap().to_string()
}

#[tokio::test]
async fn publishes_documents_with_their_headers_once() {
    let server = shared("nats", 4222);
    let stream = Stream::new(&server, |_| {}).await;
    let mut settings = settings(&server, &format!("{}.{{type}}.{{connection}}.{{mode}}", stream.name));
    let pair = |name: &str, value| Pair { name: name.to_owned(), value };
    settings.headers = vec![
        pair("X-Key", Given::Secret(Secret::new("s3cret".to_owned()))),
        pair("X-User", Given::Text("u {user}".to_owned())),
    ];
    let sink = sink(&settings);
    for _ in 0..2 {
        sink.deliver(&fixture::whole("e 1", b"{ \"amount\": 10.50 }")).await.unwrap();
    }
    let messages = stream.messages().await;
    assert_eq!(messages.len(), 1, "the stream knows a repeat by its id");
    let message = &messages[0];
    assert_eq!(message.subject.as_str(), format!("{}.com.linxo.connections.updated.123.-", stream.name));
    let header = |name: &str| message.headers.get(name).unwrap().to_string();
    assert_eq!((header("Content-Type").as_str(), id(message).as_str()), ("application/cloudevents+json", "e%201"));
    assert_eq!((header("X-Key").as_str(), header("X-User").as_str()), ("s3cret", "u 321"));
    let document: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((document["id"].as_str(), document["specversion"].as_str()), (Some("e 1"), Some("1.0")));
    assert!(message.payload.ends_with(b"\"data\":{\"amount\":10.50}}"), "no line feed, and the very digits");
    stream.remove().await;
}

#[tokio::test]
async fn a_subject_that_no_stream_takes_is_not_a_success() {
    let server = shared("nats", 4222);
    let failure = failure(&sink(&settings(&server, &format!("{}.{{user}}", unique())))).await;
    assert_eq!(failure.kind, refused(404));
    let (start, end) =
        ("no JetStream stream takes the subject \"linxotest", ".{user}\": make one, or add the subject to one");
    assert!(failure.reason.starts_with(start) && failure.reason.ends_with(end), "{}", failure.reason);
}

#[tokio::test]
async fn a_server_without_jetstream_says_so() {
    let own =
        testing::own("nats-server", |_, port| ["-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).into())
            .await;
    let failure = failure(&sink(&settings(&own.address(), "a.b"))).await;
    assert_eq!(failure.kind, TRANSIENT);
    assert!(failure.reason.starts_with("no stream answered: JetStream is off"), "{}", failure.reason);
}

#[tokio::test]
async fn what_is_too_large_says_whose_limit_it_is() {
    let server = shared("nats", 4222);
    let (large, _) = fixture::paged("large", 100, 400);
    let settings = settings(&server, "a.b");
    let theirs = failure_of(&sink(&settings), &large).await;
    assert_eq!(theirs.kind, refused(413));
    let words = "and the server's max_payload is 1048576 bytes: raise it there, then replay the entry";
    assert!(theirs.reason.ends_with(words), "{}", theirs.reason);
    let ours = failure_of(&sink(&Settings { max_message: 64 << 10, ..settings }), &large).await;
    assert!(ours.reason.contains("the sink's max_message is 64 KiB: raise it"), "{}", ours.reason);
}

#[tokio::test]
async fn a_full_stream_says_so() {
    let server = shared("nats", 4222);
    let stream = Stream::new(&server, |config| {
        config.max_messages = 1;
        config.discard = stream::DiscardPolicy::New;
    })
    .await;
    let sink = sink(&settings(&server, &format!("{}.a", stream.name)));
    sink.deliver(&fixture::whole("e0", b"{}")).await.unwrap();
    let failure = failure(&sink).await;
    assert_eq!(failure.kind, TRANSIENT);
    assert!(failure.reason.contains("the stream is full and discards what is new"), "{}", failure.reason);
    stream.remove().await;
}

/// The disk that an account may use holds one message.
#[tokio::test]
async fn an_account_whose_storage_is_used_up_says_so() {
    let own = own("accounts: { A: { jetstream: { max_file: 3KB }, users: [{ user: a, password: a }] } }").await;
    let options = || async_nats::ConnectOptions::with_user_and_password("a".to_owned(), "a".to_owned());
    let stream = Stream::by(options(), &own.address(), |_| {}).await;
    let settings = Settings {
        user: Some("a".to_owned()),
        password: Some(Secret::new("a".to_owned())),
        ..settings(&own.address(), &format!("{}.a", stream.name))
    };
    let sink = sink(&settings);
    let large: &'static [u8] = format!("{:?}", "a".repeat(2048)).leak().as_bytes();
    let mut failed = None;
    for number in 0..4 {
        if let Err(error) = sink.deliver(&fixture::whole(&format!("e{number}"), large)).await {
            failed = Some(error);
            break;
        }
    }
    let Some(crate::sink::Error::Failed(failure)) = failed else { panic!("{failed:?}") };
    assert_eq!(failure.kind, TRANSIENT);
    assert!(failure.reason.contains("the server or the account has no storage left"), "{}", failure.reason);
}

#[tokio::test]
async fn logs_in_by_each_way_and_says_what_is_forbidden() {
    let own = own(&format!(
        "authorization {{ users: [\n\
         {{ user: linxo, password: right, permissions: {{ publish: {{ allow: [\"ok.>\", \"$JS.API.>\"] }} }} }}\n\
         {{ user: mute, password: right, permissions: {{ subscribe: {{ deny: [\"_INBOX.>\"] }} }} }}\n\
         {{ user: admin, password: right }}\n\
         {{ nkey: {PUBLIC} }}\n] }}"
    ))
    .await;
    let admin = async_nats::ConnectOptions::with_user_and_password("admin".to_owned(), "right".to_owned());
    let stream = Stream::by(admin, &own.address(), |config| {
        config.subjects = vec!["ok.>".to_owned(), "no.>".to_owned()];
    })
    .await;
    let of = |user: &str, password: &str, subject: &str| Settings {
        user: Some(user.to_owned()),
        password: Some(Secret::new(password.to_owned())),
        ..settings(&own.address(), subject)
    };
    sink(&of("linxo", "right", "ok.{user}")).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    let nkey = Settings { nkey: Some(Secret::new(SEED.to_owned())), ..settings(&own.address(), "ok.{user}") };
    sink(&nkey).deliver(&fixture::whole("e2", b"{}")).await.unwrap();
    assert_eq!(stream.messages().await.iter().map(id).collect::<Vec<_>>(), ["e1", "e2"]);
    let forbidden = failure(&sink(&of("linxo", "right", "no.{user}"))).await;
    assert_eq!(forbidden.kind, refused(403));
    let words = "the server does not let this user publish on \"no.{user}\": allow it in the user's permissions";
    assert_eq!(forbidden.reason, words);
    let mute = failure(&sink(&of("mute", "right", "ok.{user}"))).await;
    assert_eq!(mute.kind, refused(403));
    assert!(mute.reason.contains("subscribe to \"_INBOX.>\""), "{}", mute.reason);
    for (settings, words) in [
        (of("linxo", "canary", "ok.a"), "check `user` and `password`"),
        (
            Settings { token: Some(Secret::new("canary".to_owned())), ..settings(&own.address(), "ok.a") },
            "check `token`",
        ),
        (settings(&own.address(), "ok.a"), "check what the server asks for: no credentials are configured"),
    ] {
        let failure = failure(&sink(&settings)).await;
        assert_eq!(failure.kind, TRANSIENT, "{}", failure.reason);
        assert_eq!(failure.reason, format!("the server refused to log the sink in: {words}"));
    }
}

/// What an operator says of an account, and an account of a user: a JWT of theirs (docs.nats.io, "JWT in depth").
fn said_of(subject: &KeyPair, by: &KeyPair, claims: &serde_json::Value) -> String {
    let encoded = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = encoded(serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = encoded(serde_json::json!({
        "jti": "1", "iat": 1, "iss": by.public_key(), "sub": subject.public_key(), "name": "linxo-test", "nats": claims
    }));
    let signed = format!("{header}.{claims}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// A server whose users are not in its configuration: it believes what its operator signed.
#[tokio::test]
async fn logs_in_by_a_credentials_file() {
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let plain = serde_json::json!({ "type": "account", "version": 2 });
    let storing = serde_json::json!({ "type": "account", "version": 2, "limits": limits });
    let lines = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {}\n{}: {}\n}}",
        said_of(&operator, &operator, &serde_json::json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        system.public_key(),
        said_of(&system, &operator, &plain),
        account.public_key(),
        said_of(&account, &operator, &storing)
    );
    let own = own(&lines).await;
    let credentials = |by: &KeyPair| {
        let user = KeyPair::new_user();
        let claims = serde_json::json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let jwt = said_of(&user, by, &claims);
        let seed = user.seed().unwrap();
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };
    let admin = async_nats::ConnectOptions::with_credentials(&credentials(&account)).unwrap();
    let stream = Stream::by(admin, &own.address(), |_| {}).await;
    let subject = format!("{}.{{user}}", stream.name);
    let of = |by: &KeyPair| Settings {
        credentials: Some(Secret::new(credentials(by))),
        ..settings(&own.address(), &subject)
    };
    sink(&of(&account)).deliver(&fixture::whole("e1", b"{}")).await.unwrap();
    assert_eq!(stream.messages().await.iter().map(id).collect::<Vec<_>>(), ["e1"]);
    let stranger = failure(&sink(&of(&KeyPair::new_account()))).await;
    assert_eq!(stranger.kind, TRANSIENT);
    assert_eq!(stranger.reason, "the server refused to log the sink in: check `credentials`");
}

#[tokio::test]
async fn trusts_configured_authorities_and_shows_its_certificate() {
    let pki = Pki::new();
    let path = |name: &str| -> PathBuf { pki.path(name) };
    let own = own(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    ))
    .await;
    let of = |host: &str, tls| Settings { tls, ..settings(&format!("tls://{host}:{}", own.port()), "tls.{user}") };
    let fine = failure(&sink(&of("localhost", pki.tls_with("client")))).await;
    assert!(fine.reason.starts_with("no JetStream stream takes"), "{}", fine.reason);
    for (settings, words) in [
        (
            of("localhost", Pki::new().tls_with("client")),
            "could not connect: the endpoint's certificate is not accepted (unknown issuer)",
        ),
        (
            of("127.0.0.1", pki.tls_with("client")),
            "could not connect: the endpoint's certificate is not accepted (made for another host name)",
        ),
        (of("localhost", pki.tls()), "could not connect: "),
    ] {
        let failure = failure(&sink(&settings)).await;
        assert!(failure.kind == TRANSIENT && failure.reason.starts_with(words), "{}", failure.reason);
    }
    assert_eq!(reach(&of("localhost", pki.tls_with("client"))).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_server_that_is_away_hangs_or_cuts_is_tried_again() {
    let server = shared("nats", 4222);
    let stream = Stream::new(&server, |_| {}).await;
    let proxy = Proxy::new(&server).await;
    let subject = format!("{}.a", stream.name);
    let of = |port: u16| Settings {
        timeout: Duration::from_millis(300),
        ..settings(&format!("127.0.0.1:{port}"), &subject)
    };
    let through = sink(&of(proxy.port));
    through.deliver(&fixture::whole("e0", b"{}")).await.unwrap();
    proxy.set(Way::Hung);
    let hung = failure(&through).await;
    assert_eq!(hung.kind, TRANSIENT);
    assert!(hung.reason.starts_with("no acknowledgement came within 300ms"), "{}", hung.reason);
    let hung = failure(&sink(&of(proxy.port))).await;
    assert!(hung.reason.starts_with("could not connect within 300ms"), "{}", hung.reason);
    proxy.set(Way::Open);
    proxy.cut();
    until("it is taken", || async { through.deliver(&fixture::whole("e1", b"{}")).await.ok() }).await;
    let port = proxy.port;
    drop(proxy);
    let away = until("the port is closed", || async {
        Some(failure(&sink(&of(port))).await).filter(|failure| failure.reason.ends_with("connection refused"))
    });
    assert_eq!(away.await.reason, "could not connect: connection refused");
    stream.remove().await;
}

/// No acknowledged event is missing after crashes of the server in mid-stream, and each connection keeps its order.
#[tokio::test(flavor = "multi_thread")]
async fn crashes_of_the_server_lose_nothing() {
    let size = size();
    let mut own = own("").await;
    let stream = Stream::new(&own.address(), |_| {}).await;
    let settings = Settings {
        timeout: Duration::from_secs(5),
        ..settings(&own.address(), &format!("{}.{{connection}}", stream.name))
    };
    deliver_all(Arc::new(sink(&settings)), size, async |taken| {
        for crash in 1..=3 {
            until("some are taken", || async { (taken.load(Ordering::Relaxed) >= crash * 4).then_some(()) }).await;
            own.crash().await.unwrap();
        }
    })
    .await;
    let stream =
        Stream { context: jetstream::new(async_nats::connect(own.address()).await.unwrap()), name: stream.name };
    let ids: Vec<_> = stream.messages().await.iter().map(id).collect();
    check_all(&ids, size);
}

#[async_trait]
impl Place for Stream {
    async fn open() -> (Box<dyn Sink>, Self) {
        let server = shared("nats", 4222);
        let stream = Self::new(&server, |_| {}).await;
        (Box::new(sink(&settings(&server, &format!("{}.{{connection}}", stream.name)))), stream)
    }

    async fn arrived(self, _: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        let messages = self.messages().await;
        self.remove().await;
        let parsed = |message: &jetstream::message::StreamMessage| {
            contract::parsed(std::str::from_utf8(&message.payload).unwrap())
        };
        messages.iter().map(|message| parsed(message).unwrap()).collect()
    }

    fn written(body: &[u8]) -> Vec<u8> {
        event::compact(body)
    }
}

contract!(Stream);
