//! Each row of the table of answers.

use super::support::{Answer, EVENT, LIMIT, Script, Site, Wanted, post, post_to, wait_for};
use crate::observe::traces::recording;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

#[tokio::test]
async fn an_event_is_stored_as_it_came_and_answered_200() {
    let site = Site::start(Wanted::default()).await;
    let answer = site.exchange(&post(EVENT)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted","id":"e-1"}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("server"), None);
    {
        let entries = site.inbox.entries();
        assert_eq!(entries[0].body, EVENT);
        let sender: serde_json::Value = serde_json::from_str(entries[0].sender.as_deref().unwrap()).unwrap();
        assert!(sender["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(sender["tls"], "1.3");
        assert_eq!(sender.get("certificate"), None);
    }

    site.inbox.set(Script::Conflict);
    assert_eq!(site.exchange(&post(EVENT)).await.body, r#"{"status":"accepted","id":"e-1"}"#);
    site.inbox.set(Script::Duplicate);
    assert_eq!(site.exchange(&post(EVENT)).await.body, r#"{"status":"duplicate","id":"e-1"}"#);

    assert_eq!(site.metric(r#"linxo_webhook_events_total{outcome="accepted"}"#), 1);
    assert_eq!(site.metric(r#"linxo_webhook_events_total{outcome="conflict"}"#), 1);
    assert_eq!(site.metric(r#"linxo_webhook_events_total{outcome="duplicate"}"#), 1);
    assert_eq!(site.metric(r#"linxo_webhook_requests_total{status="200"}"#), 3);
    assert_eq!(site.metric(r#"linxo_webhook_tls_handshakes_total{outcome="ok"}"#), 3);
}

#[tokio::test]
async fn what_cannot_be_an_event_is_refused_with_a_code() {
    let site = Site::start(Wanted::default()).await;
    let path = "/webhooks/linxo";
    let deep = "[".repeat(200);
    let large = " ".repeat(64 * 1024 + 1);
    let rows = [
        (post_to("/", "", EVENT), 404, "not_found"),
        (post_to("/webhooks/linxo//", "", EVENT), 404, "not_found"),
        (post_to("/metrics", "", EVENT), 404, "not_found"),
        (format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"), 405, "method_not_allowed"),
        (format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"), 405, "method_not_allowed"),
        // (B8) RFC 9112 section 3.2.
        (format!("POST {path} HTTP/1.1\r\ncontent-length: 0\r\n\r\n"), 400, "host"),
        (post_to(path, "host: localhost\r\n", EVENT), 400, "host"),
        (post(EVENT).replacen("localhost", "a b", 1), 400, "host"),
        ("GET / HTTP/1.0\r\nhost: a/b\r\n\r\n".to_owned(), 400, "host"),
        // (B4) Ids become keys and header values.
        (post(&EVENT.replacen("e-1", &"e".repeat(257), 1)), 422, "invalid_field"),
        (post_to(path, "content-encoding: gzip\r\n", EVENT), 415, "content_encoding"),
        (post(&large), 413, "body_too_large"),
        (post(""), 400, "not_json"),
        (post("{"), 400, "not_json"),
        (post(&deep), 400, "not_json"),
        (post("[]"), 400, "not_an_object"),
        (post("{}"), 422, "invalid_field"),
    ];
    for (request, status, code) in rows {
        let answer = site.exchange(&request).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(answer.header("allow").is_some(), status == 405);
        assert!(site.metric(&format!(r#"linxo_webhook_refused_total{{reason="{code}"}}"#)) > 0);
    }
    assert_eq!(site.inbox.stored(), 0);
    // The answer to HEAD has no body, whatever its length says.
    let mut client = site.connect().await;
    client.send(&format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let mut status = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 405");
}

impl Answer {
    fn is_accepted(&self) -> bool {
        self.status == 200
    }
}

#[tokio::test]
async fn what_is_unusual_but_an_event_is_taken() {
    let site = Site::start(Wanted::default()).await;
    let path = "/webhooks/linxo";
    assert!(site.exchange(&post_to(path, "", EVENT)).await.is_accepted());
    assert!(site.exchange(&post_to("/webhooks/linxo?token=x", "", EVENT)).await.is_accepted());
    assert!(site.exchange(&post_to(path, "content-encoding: identity\r\n", EVENT)).await.is_accepted());
    assert!(site.exchange(&post_to(path, "content-type: application/cloudevents+json\r\n", EVENT)).await.is_accepted());
    let (a, b) = EVENT.split_at(20);
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    assert!(site.exchange(&chunked).await.is_accepted());
    assert!(site.inbox.entries().iter().all(|entry| entry.body == EVENT));
    let drifted = EVENT.replace("UPDATED", "REMOVED");
    assert!(site.exchange(&post(&drifted)).await.is_accepted());
    assert_eq!(site.metric("linxo_webhook_schema_drift_total"), 1);
}

#[tokio::test]
async fn expect_100_continue_is_served_and_a_large_body_is_never_sent_for() {
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    let head = |length| {
        format!("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n")
    };
    client.send(&head(EVENT.len())).await;
    assert_eq!(client.answer().await.unwrap().status, 100);
    client.send(EVENT).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.send(&head(10_000_000)).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_without_announced_length_is_counted_as_it_comes() {
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    client.send("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..17 {
        client.send(&chunk).await;
    }
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
}

/// (B1) The content decides, and not its wrapping.
#[tokio::test]
async fn any_content_type_is_taken_and_a_byte_order_mark_is_not_kept() {
    let site = Site::start(Wanted::default()).await;
    let path = "/webhooks/linxo";
    let drift = || site.metric("linxo_webhook_schema_drift_total");
    for (number, odd) in
        ["text/plain", "text/json", "application/x-www-form-urlencoded", "nonsense", ""].iter().enumerate()
    {
        let answer = site.exchange(&post_to(path, &format!("content-type: {odd}\r\n"), EVENT)).await;
        assert!(answer.is_accepted(), "{odd}");
        assert_eq!(drift(), number as u64 + 1, "{odd}");
    }
    assert!(site.inbox.entries().iter().all(|entry| entry.event.drift == Some(event::Drift::ContentType)));
    assert!(site.exchange(&post(&format!("\u{feff}{EVENT}"))).await.is_accepted());
    assert!(site.exchange(&post_to(path, "", &format!("\u{feff}{EVENT}"))).await.is_accepted());
    assert_eq!(drift(), 5);
    assert!(site.inbox.entries().iter().all(|entry| entry.body == EVENT));
}

/// (B6) A caller that writes everything before it reads sees why its body is refused.
#[tokio::test]
async fn a_body_over_the_limit_is_answered_also_where_nobody_reads_yet() {
    let site = Site::start(Wanted::default()).await;
    for length in [64 * 1024 + 1, 100 * 1024, 120 * 1024] {
        for framing in ["content-length", "chunked"] {
            let body = "x".repeat(length);
            let request = if framing == "chunked" {
                let head = "POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
                format!("{head}{length:x}\r\n{body}\r\n0\r\n\r\n")
            } else {
                post(&body)
            };
            let mut client = site.connect().await;
            for piece in request.as_bytes().chunks(8 * 1024) {
                tokio::io::AsyncWriteExt::write_all(&mut client.0, piece).await.expect("the body is read");
                tokio::io::AsyncWriteExt::flush(&mut client.0).await.expect("the body is read");
                // Slower than the answer comes.
                tokio::task::yield_now().await;
            }
            let answer = client.answer().await.expect("an answer");
            assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"), "{framing} {length}");
            assert!(client.is_closed().await);
        }
    }
}

/// (B5) Over HTTP/2 nobody but us keeps the body of an answer to HEAD away.
#[tokio::test]
async fn head_over_http2_has_no_body() {
    let site = Site::start(Wanted::default()).await;
    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/webhooks/linxo", 405), ("/other", 404)] {
        let request = http::Request::head(format!("https://localhost{path}")).body(Full::new(Bytes::new())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    let site = Site::start(Wanted::default()).await;
    let body = format!("{EVENT}{}", " ".repeat(64 * 1024 - EVENT.len()));
    assert_eq!(site.exchange(&post(&body)).await.status, 200);
}

#[tokio::test]
async fn a_head_too_large_is_431() {
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    client.send(&format!("POST / HTTP/1.1\r\nhost: x\r\nx-fill: {}\r\n\r\n", "a".repeat(70_000))).await;
    assert_eq!(client.answer().await.unwrap().status, 431);
    assert!(client.is_closed().await);
    let fields = "x-field: y\r\n".repeat(150);
    let answer = site.exchange(&format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n")).await;
    assert_eq!(answer.status, 431);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="head_too_large"}"#), 2);
}

#[tokio::test]
async fn our_own_trouble_is_503_with_retry_after() {
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    for (script, code) in [
        (Script::Full, "store_full"),
        (Script::Backlog, "backlog"),
        (Script::Fail, "store_unavailable"),
        (Script::Closed, "draining"),
    ] {
        site.inbox.set(script);
        client.send(&post(EVENT)).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, code));
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert!(!answer.body.contains("fire"));
    }
    site.inbox.set(Script::Store);
    client.send(&post(EVENT)).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_slow_store_is_503_and_the_commit_goes_on() {
    let wanted = Wanted { commit_timeout: Duration::from_millis(20), ..Wanted::default() };
    let site = Site::start(wanted).await;
    site.inbox.set(Script::Slow(Duration::from_millis(100)));
    let answer = site.exchange(&post(EVENT)).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_slow"));
    assert_eq!(site.inbox.stored(), 0);
    site.inbox.wait_for(1).await;
}

#[tokio::test]
async fn a_span_tells_once_what_the_caller_was_answered() {
    for (commit_timeout, status, error) in [(Duration::from_millis(20), 503, Some("503")), (LIMIT, 200, None)] {
        let (tracer, mut ended) = recording();
        let site = Site::start(Wanted { commit_timeout, tracer, ..Wanted::default() }).await;
        site.inbox.set(Script::Slow(Duration::from_millis(100)));
        assert_eq!(site.exchange(&post(EVENT)).await.status, status);
        let span = ended.recv().await.unwrap();
        let of = |name: &str| -> Vec<String> {
            let named = span.attributes.iter().filter(|attribute| attribute.key.as_str() == name);
            named.map(|attribute| attribute.value.to_string()).collect()
        };
        assert_eq!(of("http.response.status_code"), [status.to_string()]);
        assert_eq!(of("error.type"), Vec::from_iter(error));
        assert_eq!(of("linxo.outcome"), ["accepted"], "it is stored all the same");
    }
}

#[tokio::test]
async fn hanging_up_cancels_no_commit() {
    let site = Site::start(Wanted::default()).await;
    site.inbox.set(Script::Slow(Duration::from_millis(100)));
    let mut client = site.connect().await;
    client.send(&post(EVENT)).await;
    wait_for(|| site.inbox.begun() == 1).await;
    drop(client);
    site.inbox.wait_for(1).await;
}

#[tokio::test]
async fn a_panic_is_500_and_the_connection_goes_on() {
    let site = Site::start(Wanted::default()).await;
    site.inbox.set(Script::Panic);
    let mut client = site.connect().await;
    client.send(&post(EVENT)).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    site.inbox.set(Script::Store);
    client.send(&post(EVENT)).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="internal"}"#), 1);
}

#[tokio::test]
async fn a_wrong_path_secret_is_any_unknown_path() {
    let site = Site::start(Wanted { secrets: vec!["old-secret", "new-secret"], ..Wanted::default() }).await;
    for secret in ["old-secret", "new-secret"] {
        assert_eq!(site.exchange(&post_to(&format!("/webhooks/linxo/{secret}"), "", EVENT)).await.status, 200);
    }
    for path in ["/webhooks/linxo", "/webhooks/linxo/wrong", "/elsewhere"] {
        let answer = site.exchange(&post_to(path, "", EVENT)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    }
}

/// What the configuration allows as a path, the router takes as it stands.
#[tokio::test]
async fn any_path_can_be_the_webhooks() {
    for (path, secrets, sent, status) in [
        ("/", vec![], "/", 200),
        ("/", vec!["a-secret"], "/a-secret", 200),
        ("/", vec!["a-secret"], "/", 404),
        ("/hooks/", vec![], "/hooks/", 200),
        // (B7) One slash at the end is the same path.
        ("/hooks", vec![], "/hooks/", 200),
        ("/hooks", vec![], "/hooks//", 404),
        ("/hooks", vec!["a-secret"], "/hooks/a-secret/", 200),
        ("/hooks", vec!["a-secret"], "/hooks/", 404),
        ("/", vec!["a-secret"], "/a-secret/", 200),
        ("/", vec![], "//", 404),
        ("/hooks/", vec!["a-secret"], "/hooks/a-secret", 200),
        ("/:a/*b", vec![], "/:a/*b", 200),
        ("/:a/*b", vec![], "/x/y", 404),
        ("/a%20b", vec![], "/a%20b", 200),
        ("/hooks", vec!["a-secret"], "/hooks/a%2Dsecret", 404),
        ("/hooks", vec!["a-secret"], "/hooks/%FF", 404),
    ] {
        let mut wanted = Wanted { secrets, ..Wanted::default() };
        path.clone_into(&mut wanted.listener.path);
        let site = Site::start(wanted).await;
        assert_eq!(site.exchange(&post_to(sent, "", EVENT)).await.status, status, "{path} {sent}");
        let other = format!("GET {sent} HTTP/1.1\r\nhost: x\r\n\r\n");
        let status = if status == 200 { 405 } else { 404 };
        assert_eq!(site.exchange(&other).await.status, status, "{path} {sent}");
    }
}

#[tokio::test]
async fn http2_gets_the_same_answers() {
    let site = Site::start(Wanted::default()).await;
    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let large = " ".repeat(64 * 1024 + 1);
    for (method, path, body, status) in [
        ("POST", "/webhooks/linxo", EVENT, 200),
        ("POST", "/webhooks/linxo", "{", 400),
        ("POST", "/webhooks/linxo", large.as_str(), 413),
        ("POST", "/other", EVENT, 404),
        ("GET", "/webhooks/linxo", "", 405),
        ("POST", "/webhooks/linxo", EVENT, 200),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{"));
    }
    assert_eq!(site.inbox.stored(), 2);
}

#[tokio::test]
async fn head_is_answered_without_a_body_by_http2_too() {
    let site = Site::start(Wanted::default()).await;
    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/webhooks/linxo", 405), ("/other", 404), ("/webhooks/linxo", 405)] {
        let request = http::Request::head(format!("https://localhost{path}")).body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("allow").is_some(), status == 405);
        let length: u64 = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert!(length > 100, "the length of the problem document: {length}");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

/// Callers look for an answer after they have sent everything; one that is stopped before does not find it.
#[tokio::test]
async fn an_early_answer_is_seen_although_a_body_follows() {
    let site = Site::start(Wanted::default()).await;
    let body = " ".repeat(60 * 1024);
    let mut client = site.connect().await;
    let text = "content-encoding: gzip\r\n";
    for (request, status) in [
        (post_to("/webhooks/linxo", text, &body), 415),
        (post_to("/other", "", &body), 404),
        (post_to("/webhooks/linxo", text, EVENT), 415),
    ] {
        client.send(&request).await;
        assert_eq!(client.answer().await.unwrap().status, status);
    }

    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (done, mut sent) = tokio::sync::mpsc::channel(1);
    for (method, path, status) in
        [("POST", "/webhooks/linxo", 415), ("POST", "/other", 404), ("PUT", "/webhooks/linxo", 405)]
    {
        let pieces = futures_util::stream::unfold((0, done.clone()), |(count, done)| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if count == 6 {
                done.send(()).await.unwrap();
                return None;
            }
            let piece = http_body::Frame::data(Bytes::from(vec![b' '; 10_000]));
            Some((Ok::<_, std::convert::Infallible>(piece), (count + 1, done)))
        });
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-encoding", "gzip")
            .body(StreamBody::new(Box::pin(pieces)))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        sent.try_recv().expect("the answer comes after the whole body was sent");
    }
}
