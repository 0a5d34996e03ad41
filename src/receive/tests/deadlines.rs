//! No caller holds a socket without using it.

use super::support::{EVENT, LIMIT, Site, Wanted, post, wait_for};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SHORT: Duration = Duration::from_millis(150);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn with(change: impl FnOnce(&mut crate::receive::settings::Listener)) -> Wanted {
    let mut wanted = Wanted::default();
    change(&mut wanted.listener);
    wanted
}

async fn ends(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end too.
    drop(timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("the connection ends in time"));
    rest
}

#[tokio::test]
async fn silence_on_tcp_and_half_a_handshake() {
    let site = Site::start(with(|listener| listener.handshake_timeout = SHORT)).await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    let mut half = TcpStream::connect(site.address).await.unwrap();
    half.write_all(&[22, 3, 1, 1, 0]).await.unwrap();
    ends(&mut silent).await;
    ends(&mut half).await;
    assert_eq!(site.metric(r#"linxo_webhook_tls_handshakes_total{outcome="timeout"}"#), 1);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="probe"}"#), 1);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_ends_at_once() {
    let site = Site::start(Wanted::default()).await;
    let mut plain = TcpStream::connect(site.address).await.unwrap();
    plain.write_all(post(EVENT).as_bytes()).await.unwrap();
    ends(&mut plain).await;
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="tls_invalid"}"#), 1);
}

#[tokio::test]
async fn silence_after_the_handshake() {
    let site = Site::start(with(|listener| listener.header_timeout = SHORT)).await;
    let silent = async |alpn| {
        ends(&mut site.tls(site.client_builder().with_no_client_auth(), alpn).await.unwrap()).await;
    };
    tokio::join!(silent(&b"http/1.1"[..]), silent(b"h2"));
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="silent"}"#), 2);
}

#[tokio::test]
async fn half_an_http2_preface_and_a_preface_without_a_request() {
    let site = Site::start(with(|listener| listener.header_timeout = SHORT)).await;
    let with_bytes = async |bytes: &[u8]| {
        let mut stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
        stream.write_all(bytes).await.unwrap();
        ends(&mut stream).await;
    };
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    tokio::join!(with_bytes(&PREFACE[..10]), with_bytes(PREFACE), with_bytes(&settings));
}

#[tokio::test]
async fn a_dripped_head_is_408_in_all_and_not_per_byte() {
    let site = Site::start(with(|listener| listener.header_timeout = SHORT)).await;
    let mut client = site.connect().await;
    let begun = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut client.0);
    let drip = async {
        writer.write_all(b"POST /webhooks/linxo HTTP/1.1\r\nhost: ").await?;
        loop {
            writer.write_all(b"x").await?;
            writer.flush().await?;
            sleep(SHORT / 5).await;
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        std::io::Result::Ok(())
    };
    let mut answer = vec![0; 12];
    tokio::select! {
        read = reader.read_exact(&mut answer) => drop(read.unwrap()),
        _ = drip => {}
    }
    assert_eq!(answer, b"HTTP/1.1 408");
    assert!(begun.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_slow_head_on_a_kept_connection_is_408_while_idleness_is_allowed() {
    let site = Site::start(with(|listener| listener.header_timeout = SHORT)).await;
    let mut client = site.connect().await;
    client.send(&post(EVENT)).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    sleep(SHORT * 2).await;
    client.send("POST /webhooks").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "head_timeout"));
    assert!(client.is_closed().await);
    assert_eq!(site.metric(r#"linxo_webhook_requests_total{status="408"}"#), 1);
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let site = Site::start(with(|listener| listener.body_timeout = SHORT)).await;
    for body in ["content-length: 100\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n5\r\n{"] {
        let mut client = site.connect().await;
        client.send(&format!("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\n{body}")).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_own_time() {
    let site = Site::start(with(|listener| listener.idle_timeout = SHORT)).await;
    let mut client = site.connect().await;
    client.send(&post(EVENT)).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    let quiet = Instant::now();
    assert!(client.is_closed().await);
    assert!(quiet.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn over_the_limit_of_connections_a_socket_is_closed_at_once_and_a_freed_place_is_used() {
    let site = Site::start(with(|listener| listener.max_connections = 1)).await;
    let mut first = site.connect().await;
    let mut second = TcpStream::connect(site.address).await.unwrap();
    ends(&mut second).await;
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="connection_limit"}"#), 1);
    first.send(&post(EVENT)).await;
    assert_eq!(first.answer().await.unwrap().status, 200);
    drop(first);
    wait_for(|| site.metric("linxo_webhook_connections") == 0).await;
    assert_eq!(site.exchange(&post(EVENT)).await.status, 200);
}
