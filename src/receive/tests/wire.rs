//! Odd things on the wire: TLS that nobody speaks, and requests that try to be taken for something else.

use super::{
    flood::{END_HEADERS, END_STREAM, PREFACE, connect, frame, head, kind},
    support::{Client, EVENT, LIMIT, Site, Wanted, post, post_to, shake_hands},
};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

fn refused(site: &Site, reason: &str) -> u64 {
    site.metric(&format!(r#"linxo_webhook_refused_total{{reason="{reason}"}}"#))
}

#[tokio::test]
async fn without_a_protocol_it_is_http1_and_with_a_foreign_one_it_is_nothing() {
    let site = Site::start(Wanted::default()).await;
    let tcp = TcpStream::connect(site.address).await.unwrap();
    let mut client = Client(shake_hands(tcp, site.client_builder().with_no_client_auth(), b"").await.unwrap());
    client.send(&post(EVENT)).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    for foreign in [&b"h3"[..], b"spdy/3", b"HTTP/1.1", b"h2c", &[b'x'; 255]] {
        let error = site.tls(site.client_builder().with_no_client_auth(), foreign).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    }
    assert_eq!(refused(&site, "tls_incompatible"), 5);
}

#[tokio::test]
async fn a_hello_larger_than_any_is_refused_before_it_is_whole() {
    let site = Site::start(Wanted::default()).await;
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    // A handshake message that announces 16 MiB less one, in records of 16 KiB.
    let mut sent = 0;
    let record = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let mut first = record.clone();
    first[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    let ended = async {
        while tcp.write_all(if sent == 0 { &first } else { &record }).await.is_ok() {
            sent += record.len();
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, ended).await.expect("it is ended");
    assert_eq!(refused(&site, "tls_invalid"), 1);
    // What the buffers of the system take may have been sent all the same.
    assert!(sent < 8 * 1024 * 1024, "{sent}");
}

/// Allowed, odd, and seen where somebody wants to slip past a filter.
#[tokio::test]
async fn a_hello_in_records_of_one_byte_is_read() {
    let site = Site::start(Wanted::default()).await;
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut head = [0; 5];
        theirs.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        theirs.read_exact(&mut hello).await.unwrap();
        for byte in hello {
            tcp.write_all(&[22, 3, 1, 0, 1, byte]).await.unwrap();
        }
        drop(tokio::io::copy_bidirectional(&mut theirs, &mut tcp).await);
    });
    let config = Arc::new(site.client_builder().with_no_client_auth());
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = timeout(LIMIT, TlsConnector::from(config).connect(name, ours)).await.unwrap().unwrap();
    stream.write_all(post(EVENT).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    timeout(LIMIT, stream.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_path_that_is_only_similar_is_another_path() {
    let site = Site::start(Wanted::default()).await;
    for path in [
        "/webhooks/%6cinxo",
        "/webhooks%2flinxo",
        "/webhooks/linxo%00",
        "/webhooks/linxo%20",
        "/webhooks/linxo%2f",
        "/webhooks/linxo//",
        "/webhooks/linxo/.",
        "/webhooks/linxo;x=1",
        "/webhooks/linxo.json",
        "/webhooks//linxo",
        "//webhooks/linxo",
        "/webhooks/./linxo",
        "/webhooks/x/../linxo",
        "/../webhooks/linxo",
        "/webhooks/%2e%2e/webhooks/linxo",
        "/Webhooks/Linxo",
        "/WEBHOOKS/LINXO",
        "/webhooks\\linxo",
        "/",
        "*",
        "https://localhost/",
        "https://localhost",
    ] {
        let answer = site.exchange(&post_to(path, "", EVENT)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
    for path in ["/webhooks/linxo\0", "/webhooks/linxo\t", "/webhooks/linxo x", "webhooks/linxo"] {
        let answer = site.exchange(&post_to(path, "", EVENT)).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{path:?}");
    }
    assert_eq!(site.inbox.stored(), 0);
}

#[tokio::test]
async fn a_path_too_long_is_a_head_too_large() {
    let site = Site::start(Wanted::default()).await;
    assert_eq!(site.exchange(&post_to(&format!("/{}", "x".repeat(60_000)), "", EVENT)).await.status, 404);
    let get = |length| format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(length));
    for (length, status) in [(65_400, 404), (65_534, 431), (65_535, 431), (65_536, 431), (100_000, 431)] {
        assert_eq!(site.exchange(&get(length)).await.status, status, "{length}");
    }
    assert_eq!(refused(&site, "head_too_large"), 4);
    assert_eq!(site.metric(r#"linxo_webhook_requests_total{status="431"}"#), 4);

    // Hyper's own limit on paths shows where larger heads are allowed.
    let mut wanted = Wanted::default();
    wanted.listener.max_head = 256 * 1024;
    let site = Site::start(wanted).await;
    for (length, status) in [(65_000, 404), (65_533, 404), (65_534, 414), (100_000, 414), (300_000, 431)] {
        assert_eq!(site.exchange(&get(length)).await.status, status, "{length}");
    }
    assert_eq!(refused(&site, "head_too_large"), 3);
    for (status, count) in [(414, 2), (431, 1)] {
        assert_eq!(site.metric(&format!(r#"linxo_webhook_requests_total{{status="{status}"}}"#)), count, "{status}");
    }
}

#[tokio::test]
async fn no_encoding_hides_in_another() {
    let site = Site::start(Wanted::default()).await;
    for fields in [
        "content-encoding: gzip\r\n",
        "content-encoding: gzip, gzip\r\n",
        "content-encoding: identity, gzip\r\n",
        "content-encoding: gzip, identity\r\n",
        "content-encoding: identity\r\ncontent-encoding: br\r\n",
        "content-encoding: x-gzip\r\n",
        "content-encoding: zstd\r\n",
        "content-encoding: deflate;q=1\r\n",
        "content-encoding: aes128gcm\r\n",
    ] {
        let answer = site.exchange(&post_to("/webhooks/linxo", fields, EVENT)).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "content_encoding"), "{fields}");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    let body = post_to("/webhooks/linxo", "content-encoding: IDENTITY\r\ncontent-encoding:\r\n", EVENT);
    assert_eq!(site.exchange(&body).await.status, 200);
}

#[tokio::test]
async fn methods_that_reflect_or_tunnel_are_refused() {
    let site = Site::start(Wanted::default()).await;
    for (line, status, code) in [
        ("TRACE /webhooks/linxo", 405, "method_not_allowed"),
        ("OPTIONS /webhooks/linxo", 405, "method_not_allowed"),
        ("TRACK /webhooks/linxo", 405, "method_not_allowed"),
        ("post /webhooks/linxo", 405, "method_not_allowed"),
        ("OPTIONS *", 404, "not_found"),
        ("CONNECT localhost:443", 404, "not_found"),
        ("CONNECT /webhooks/linxo", 405, "method_not_allowed"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nx-secret: canary\r\n\r\n");
        let answer = site.exchange(&request).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{line}");
        assert!(!answer.body.contains("canary") && !answer.head.contains("canary"), "{line}");
    }

    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (method, uri, status) in [
        ("TRACE", "https://localhost/webhooks/linxo", 405),
        ("CONNECT", "localhost:443", 404),
        ("OPTIONS", "https://localhost/webhooks/linxo", 405),
    ] {
        let request = http::Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{method}");
    }
    assert_eq!(site.inbox.stored(), 0);
}

#[tokio::test]
async fn what_callers_invent_makes_no_series() {
    const EACH: usize = 500;
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    let mut known = None;
    for round in 0..21 {
        // Pipelined, and answered in order.
        let mut requests = String::new();
        for number in 0..EACH {
            let name = format!("{round}x{number}");
            let (method, path) = match number % 2 {
                0 => (format!("M{name}"), "/webhooks/linxo".to_owned()),
                _ => ("POST".to_owned(), format!("/{name}")),
            };
            write!(
                requests,
                "{method} {path} HTTP/1.1\r\nhost: h{name}\r\nuser-agent: {name}\r\nx-{name}: {name}\r\n\r\n"
            )
            .unwrap();
        }
        client.send(&requests).await;
        for _ in 0..EACH {
            assert!([404, 405].contains(&client.answer().await.unwrap().status));
        }
        let series = site.metrics.encode().lines().count();
        assert_eq!(*known.get_or_insert(series), series);
    }
}

/// A caller that is still sending when its stream is reset may report the reset, as curl does, and not the answer.
#[tokio::test]
async fn the_answer_to_an_unread_http2_body_comes_well_before_the_reset() {
    let site = Site::start(Wanted::default()).await;
    let mut stream = connect(&site, b"h2").await;
    // `content-length: 3000000`, by its place in the static table (RFC 7541 appendix A).
    let announced = [&head("/webhooks/linxo")[..], &[0x0f, 0x0d, 7], b"3000000"].concat();
    let frames = [
        PREFACE.to_vec(),
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::HEADERS, END_HEADERS, 1, &announced),
        frame(kind::DATA, 0, 1, &[b' '; 1000]),
    ];
    stream.write_all(&frames.concat()).await.unwrap();
    let (mut answered, mut said) = (None, Vec::new());
    let reset = async {
        loop {
            let mut prefix = [0; 9];
            stream.read_exact(&mut prefix).await.unwrap();
            let [_, a, b, kind, flags, _, _, _, number] = prefix;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([a, b]))];
            stream.read_exact(&mut payload).await.unwrap();
            match (kind, number) {
                (kind::DATA, 1) => {
                    said.extend_from_slice(&payload);
                    answered = Some(Instant::now()).filter(|_| flags & END_STREAM > 0);
                }
                (kind::RST_STREAM, 1) => return payload,
                _ => {}
            }
        }
    };
    let code = timeout(LIMIT, reset).await.expect("the stream is reset in the end");
    assert_eq!(code, [0; 4], "NO_ERROR, as RFC 9113 has it (8.1)");
    assert!(String::from_utf8(said).unwrap().contains("body_too_large"));
    assert!(answered.unwrap().elapsed() > Duration::from_millis(500));
}
