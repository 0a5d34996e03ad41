//! What is logged, and what never is.

use super::support::{Clients, EVENT, LIMIT, Site, Wanted, post, post_to};
use crate::pki::Authority;
use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

const SHORT: Duration = Duration::from_millis(500);

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What an operator sees: no `debug`.
    fn seen(&self, message: &str) -> Vec<serde_json::Value> {
        self.with_message(message).into_iter().filter(|line| line["level"] != "DEBUG").collect()
    }

    fn with_message(&self, message: &str) -> Vec<serde_json::Value> {
        self.all().into_iter().filter(|line| line["fields"]["message"] == message).collect()
    }
}

/// The subscriber is the thread's own; tests run on one thread each.
fn captured() -> (Lines, tracing::subscriber::DefaultGuard) {
    // With a single subscriber `tracing` asks only the one of the thread that comes to a log line first, and remembers a
    // "nobody listens" of another test's thread for all. A second subscriber makes it ask everybody.
    static EVERYWHERE: OnceLock<tracing::Dispatch> = OnceLock::new();
    EVERYWHERE.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn one_line_an_event_and_nothing_personal_anywhere() {
    let (lines, _guard) = captured();
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
    let fields = &accepted[0]["fields"];
    assert_eq!(accepted[0]["level"], "INFO");
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

#[tokio::test]
async fn a_refused_certificate_is_named_only_where_an_authority_vouches_for_it() {
    let (lines, _guard) = captured();
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
    let mut warned: Vec<_> =
        refused.iter().filter(|line| line["level"] == "WARN").map(|line| &line["fields"]).collect();
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

/// Whoever looks at `info` sees what breaks, and a flood of it is two lines.
#[tokio::test]
async fn broken_handshakes_and_heads_are_one_line_a_reason_and_a_summary() {
    const EACH: usize = 30;
    let (lines, _guard) = captured();
    let mut wanted = Wanted::default();
    let listener = &mut wanted.listener;
    (listener.handshake_timeout, listener.header_timeout) = (SHORT, SHORT);
    (listener.max_connections, listener.max_connections_per_address, listener.max_handshakes) = (500, 500, 500);
    let mut site = Site::start(wanted).await;
    let mut callers = JoinSet::new();
    for _ in 0..EACH {
        for opening in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
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
    let all_gone = async {
        while site.metric("linxo_webhook_connections") > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, all_gone).await.unwrap();
    site.stop();
    site.stopped().await;
    let of = |found: Vec<serde_json::Value>| {
        let mut reasons: Vec<_> =
            found.iter().map(|line| line["fields"]["reason"].as_str().unwrap().to_owned()).collect();
        reasons.sort();
        reasons
    };
    assert_eq!(of(lines.seen("handshake failed")), ["tls_invalid"]);
    assert_eq!(of(lines.seen("handshake not finished in time")), ["handshake_timeout"]);
    assert_eq!(of(lines.seen("connection ended: no complete request in time")), ["head_timeout", "silent"]);
    assert_eq!(of(lines.seen("connection ended: it cannot be understood")), ["head_malformed", "head_too_large"]);
    let more = lines.seen("more was refused for the same reason in the last minute");
    assert!(more.iter().all(|line| line["fields"]["count"] == EACH - 1), "{more:?}");
    assert_eq!(of(more).len(), 6, "the summary comes once: not at the start, and at the end");
}
