//! What is logged, and what never is.

use super::{
    flood::{END_HEADERS, END_STREAM, PREFACE, connect, frame, head, kind},
    support::{Clients, EVENT, LIMIT, Script, Site, Wanted, post, post_to, wait_for},
};
use crate::observe::log::{double::Memory, settings::LogFormat};
use double::pki::Authority;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const SHORT: Duration = Duration::from_millis(500);

/// The log of this thread, as the service writes it; tests run on one thread each.
struct Lines(
    Memory,
    #[expect(dead_code, reason = "ends the log when it is dropped")] tracing::subscriber::DefaultGuard,
);

impl Lines {
    fn capture() -> Self {
        let memory = Memory::default();
        let guard = tracing::dispatcher::set_default(&memory.dispatch(LogFormat::Json, tracing::Level::TRACE));
        Self(memory, guard)
    }

    fn all(&self) -> Vec<serde_json::Value> {
        self.0.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What an operator sees: no `debug`.
    fn seen(&self, message: &str) -> Vec<serde_json::Value> {
        self.with_message(message).into_iter().filter(|line| line["level"] != "DEBUG").collect()
    }

    fn with_message(&self, message: &str) -> Vec<serde_json::Value> {
        self.all().into_iter().filter(|line| line["message"] == message).collect()
    }
}

#[tokio::test]
async fn one_line_an_event_and_nothing_personal_anywhere() {
    let lines = Lines::capture();
    let site = Site::start(Wanted { secrets: vec!["canary-secret"], ..Wanted::default() }).await;
    let path = "/webhooks/linxo/canary-secret?token=canary-query";
    let event = EVENT.replace("\"accounts\":[]", "\"accounts\":[{\"iban\":\"canary-iban\"}]");
    assert_eq!(site.exchange(&post_to(path, "authorization: canary-header\r\n", &event)).await.status, 200);
    for _ in 0..20 {
        assert_eq!(site.exchange(&post("{\"canary-name\":1}")).await.status, 404);
        assert_eq!(site.exchange(&post_to(path, "", "{\"canary-name\":1}")).await.status, 422);
    }

    let accepted = lines.with_message("event accepted");
    assert_eq!(accepted.len(), 1);
    let fields = &accepted[0];
    assert_eq!(fields["level"], "INFO");
    for (field, value) in [("event.id", "e-1"), ("connection.id", "c-1"), ("user.id", "u-1"), ("outcome", "accepted")] {
        assert_eq!(fields[field], value, "{field}");
    }
    for (field, value) in [("entry", 1), ("accounts.announced", 0), ("accounts.listed", 1), ("bytes", event.len())] {
        assert_eq!(fields[field], value, "{field}");
    }
    assert_eq!(fields["request.id"].as_str().unwrap().len(), 16);
    assert_eq!(lines.seen("request refused").len(), 2, "one line a reason");
    for line in lines.all() {
        assert!(!line.to_string().contains("canary"), "{line}");
    }
}

/// (F9) A repeat is not said to be accepted, and a healthy request is one line.
#[tokio::test]
async fn a_repeat_has_a_line_of_its_own() {
    let lines = Lines::capture();
    let site = Site::start(Wanted::default()).await;
    for script in [Script::Store, Script::Duplicate, Script::Conflict] {
        site.inbox.set(script);
        assert_eq!(site.exchange(&post(EVENT)).await.status, 200);
    }
    let said: Vec<_> = lines.all().into_iter().filter(|line| line["event.id"] == "e-1").collect();
    let of = |field: &str| said.iter().map(|line| line[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("code"), ["event_accepted", "event_repeated", "event_accepted"]);
    assert_eq!(of("level"), ["INFO", "INFO", "INFO"]);
    assert_eq!((&said[0]["outcome"], &said[2]["outcome"]), (&"accepted".into(), &"conflict".into()));
    assert!(!said[1]["message"].as_str().unwrap().contains("accepted"), "{}", said[1]);
}

#[tokio::test]
async fn a_refused_certificate_is_named_only_where_an_authority_vouches_for_it() {
    let lines = Lines::capture();
    let (ours, theirs) = (Authority::new("Ours").unwrap(), Authority::new("canary-authority").unwrap());
    let wanted = Clients { names: vec!["a.example".to_owned()], ..Clients::of(&[&ours]) };
    let site = Site::start(Wanted { clients: Some(wanted), ..Wanted::default() }).await;
    for identity in [ours.client("other", &["b.example"]), theirs.client("canary-name", &["canary.example"])] {
        let identity = identity.unwrap();
        for _ in 0..5 {
            let config = site
                .client_builder_for(&[&rustls::version::TLS12])
                .with_client_auth_cert(identity.certificates().unwrap(), identity.key().unwrap())
                .unwrap();
            assert!(site.tls(config, b"http/1.1").await.is_err());
        }
    }
    let refused = lines.with_message("handshake refused for the client's certificate");
    let mut warned: Vec<_> = refused.iter().filter(|line| line["level"] == "WARN").collect();
    assert!(warned.len() < refused.len(), "a flood is not logged");
    warned.dedup_by_key(|fields| fields["reason"].clone());
    assert_eq!(warned[0]["reason"], "name_not_listed");
    assert!(warned[0]["subject"].as_str().unwrap().contains("CN=other"));
    assert!(warned[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(warned[1]["reason"], "unknown_authority");
    assert!(warned[1].get("subject").is_none());
    for line in lines.all() {
        assert!(!line.to_string().contains("canary"), "{line}");
    }
}

#[tokio::test]
async fn what_http2_is_sent_stands_in_no_line_at_any_level() {
    let lines = Lines::capture();
    let site = Site::start(Wanted { secrets: vec!["canary-secret"], ..Wanted::default() }).await;
    // A path that `h2` refuses, a field that hyper refuses, a ping that nobody asked for, and a stream that is reset.
    for path in ["/webhooks/linxo/canary-secret\u{7f}", "/webhooks/linxo/canary-secret \u{1}", "canary-secret"] {
        let mut stream = connect(&site, b"h2").await;
        let field = [&[0x00, 12][..], b"canary-Field", &[1], b"x"].concat();
        let frames = [
            PREFACE.to_vec(),
            frame(kind::SETTINGS, 0, 0, &[]),
            frame(kind::PING, 1, 0, b"canary-8"),
            frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &head(path)),
            frame(kind::HEADERS, END_STREAM | END_HEADERS, 3, &[head("/webhooks/linxo/canary-secret"), field].concat()),
        ];
        stream.write_all(&frames.concat()).await.unwrap();
        if path == "canary-secret" {
            let goaway = [&[0, 0, 0, 0, 0, 0, 0, 1][..], b"canary-goaway"].concat();
            stream.write_all(&frame(kind::GOAWAY, 0, 0, &goaway)).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        // What was sent is worked on before its end is seen; how the connection ends does not matter.
        timeout(LIMIT, stream.read_to_end(&mut Vec::new())).await.unwrap().ok();
    }
    assert_eq!(site.exchange(&post_to("/webhooks/linxo/canary-secret", "", EVENT)).await.status, 200);
    for line in lines.all() {
        assert!(!line.to_string().to_lowercase().contains("canary"), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("linxo_webhook"), "{line}");
    }
}

/// Whoever looks at `info` sees what breaks, and a flood of it is two lines.
#[tokio::test]
async fn broken_handshakes_and_heads_are_one_line_a_reason_and_a_summary() {
    const EACH: usize = 30;
    let lines = Lines::capture();
    let mut wanted = Wanted::default();
    let listener = &mut wanted.listener;
    (listener.handshake_timeout, listener.header_timeout) = (SHORT, SHORT);
    (listener.max_connections, listener.max_connections_per_address, listener.max_handshakes) = (500, 500, 500);
    let site = Site::start(wanted).await;
    let mut callers = JoinSet::new();
    for _ in 0..EACH {
        for opening in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
            let mut tcp = TcpStream::connect(site.address).await.unwrap();
            callers.spawn(async move {
                tcp.write_all(opening).await.unwrap();
                drop(tcp.read_to_end(&mut Vec::new()).await);
            });
        }
        let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(70_000));
        for head in ["", "GET / HTTP/1.1\r\n", "GET / HTTP/1.2\r\n\r\n", large.as_str()] {
            let (mut client, head) = (site.connect().await, head.to_owned());
            callers.spawn(async move {
                client.send(&head).await;
                drop(client.answer().await);
            });
        }
    }
    callers.join_all().await;
    wait_for(|| site.metric("linxo_webhook_connections") == 0).await;
    let probes = site.metric(r#"linxo_webhook_refused_total{reason="probe"}"#);
    site.stop();
    site.stopped().await;
    let of = |found: Vec<serde_json::Value>| {
        let mut reasons: Vec<_> = found.iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
        reasons.sort();
        reasons
    };
    // (C8) Who sends nothing is counted, and in no line.
    assert_eq!(probes, EACH as u64);
    assert_eq!(of(lines.seen("handshake failed")), ["tls_invalid"]);
    assert_eq!(of(lines.seen("handshake not finished in time")), ["handshake_timeout"]);
    assert_eq!(of(lines.seen("connection ended: no complete request in time")), ["head_timeout", "silent"]);
    assert_eq!(of(lines.seen("connection ended: it cannot be understood")), ["head_malformed", "head_too_large"]);
    let more = lines.seen("more was refused for the same reason in the last minute");
    assert!(more.iter().all(|line| line["count"] == EACH - 1), "{more:?}");
    assert_eq!(of(more).len(), 6, "the summary comes once: not at the start, and at the end");
}
