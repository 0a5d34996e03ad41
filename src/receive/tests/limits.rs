//! How much one caller, and all together, may take.

use super::{
    flood::{PREFACE, connect},
    support::{Client, EVENT, LIMIT, Script, Site, Wanted, post, wait_for},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

fn with(change: impl FnOnce(&mut crate::receive::settings::Listener)) -> Wanted {
    let mut wanted = Wanted::default();
    change(&mut wanted.listener);
    wanted
}

async fn is_turned_away(site: &Site, reason: &str) {
    let mut socket = TcpStream::connect(site.address).await.unwrap();
    let mut rest = Vec::new();
    // A reset is an end too.
    drop(timeout(LIMIT, socket.read_to_end(&mut rest)).await.expect("the connection ends in time"));
    assert_eq!(site.metric(&format!(r#"linxo_webhook_refused_total{{reason="{reason}"}}"#)), 1);
}

async fn is_served(client: &mut Client) -> bool {
    client.send(&post(EVENT)).await;
    client.answer().await.is_some_and(|answer| answer.status == 200)
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let site = Site::start(with(|listener| listener.max_connections_per_address = 2)).await;
    let (mut first, mut second) = (site.connect().await, site.connect().await);
    is_turned_away(&site, "address_limit").await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    drop((first, second));
    wait_for(|| site.metric("linxo_webhook_connections") == 0).await;
    assert!(is_served(&mut site.connect().await).await);
}

#[tokio::test]
async fn callers_behind_a_balancer_have_shares_of_their_own() {
    let site = Site::start(with(|listener| {
        listener.max_connections_per_address = 1;
        listener.proxy_protocol = true;
        listener.proxy_networks = [ipnet::IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]))].into_iter().collect();
    }))
    .await;
    let caller = async |address: &str| {
        let header = format!("PROXY TCP4 {address} 10.0.0.1 5000 443\r\n");
        let config = site.client_builder().with_no_client_auth();
        site.tls_behind(header.as_bytes(), config, b"http/1.1").await.map(Client)
    };
    let mut one = caller("192.0.2.1").await.unwrap();
    let mut two = caller("192.0.2.2").await.unwrap();
    assert!(caller("192.0.2.1").await.is_err());
    assert!(is_served(&mut one).await && is_served(&mut two).await);
}

#[tokio::test]
async fn handshakes_under_way_are_bounded_and_finished_ones_do_not_count() {
    let site = Site::start(with(|listener| listener.max_handshakes = 1)).await;
    let mut shaken = site.connect().await;
    assert!(is_served(&mut shaken).await);
    // One that has begun stays; the next one is turned away.
    let mut begun = TcpStream::connect(site.address).await.unwrap();
    begun.write_all(&[22, 3, 1]).await.unwrap();
    wait_for(|| site.metric("linxo_webhook_connections") == 2).await;
    sleep(Duration::from_millis(20)).await;
    is_turned_away(&site, "handshake_limit").await;
    assert!(is_served(&mut shaken).await);
    drop(begun);
    wait_for(|| site.metric("linxo_webhook_connections") == 1).await;
    assert!(is_served(&mut site.connect().await).await);
}

/// (C3) The oldest that has sent nothing makes room.
#[tokio::test]
async fn a_silent_socket_makes_room_for_a_caller() {
    let site = Site::start(with(|listener| listener.max_handshakes = 2)).await;
    let mut silent = Vec::new();
    for number in 1..=2 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
        wait_for(|| site.metric("linxo_webhook_connections") == number).await;
    }
    assert!(is_served(&mut site.connect().await).await);
    let mut rest = Vec::new();
    drop(timeout(LIMIT, silent[0].read_to_end(&mut rest)).await.expect("the oldest is closed"));
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="handshake_limit"}"#), 1);
}

#[tokio::test]
async fn above_the_limit_of_requests_the_answer_is_503_before_the_body_came() {
    let site = Site::start(with(|listener| listener.max_requests = 1)).await;
    let (mut first, mut second) = (site.connect().await, site.connect().await);
    // Its body is waited for.
    let (head, body) = EVENT.split_at(10);
    first
        .send(&format!("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{head}", EVENT.len()))
        .await;
    let overloaded = async {
        loop {
            second.send("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").await;
            let answer = second.answer().await.unwrap();
            if answer.status == 503 {
                break answer;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let answer = timeout(LIMIT, overloaded).await.unwrap();
    assert_eq!(answer.code(), "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    first.send(body).await;
    assert_eq!(first.answer().await.unwrap().status, 200);
    assert!(is_served(&mut site.connect().await).await);
}

#[tokio::test]
async fn a_commit_that_goes_on_after_its_answer_keeps_its_place() {
    let mut wanted = with(|listener| listener.max_requests = 1);
    wanted.commit_timeout = Duration::from_millis(10);
    let site = Site::start(wanted).await;
    // Longer than a place is waited for.
    site.inbox.set(Script::Slow(Duration::from_secs(2)));
    assert_eq!(site.exchange(&post(EVENT)).await.code(), "store_slow");
    assert_eq!(site.exchange(&post(EVENT)).await.code(), "overloaded");
    site.inbox.wait_for(1).await;
    site.inbox.set(Script::Store);
    let taken = async { while site.exchange(&post(EVENT)).await.status != 200 {} };
    timeout(LIMIT, taken).await.expect("the place is given back");
}

#[tokio::test]
async fn bodies_share_one_budget_of_memory() {
    let site = Site::start(with(|listener| listener.body_memory = 64 * 1024)).await;
    let padded = |size: usize| format!("{EVENT}{}", " ".repeat(size - EVENT.len()));
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let mut greedy = site.connect().await;
    greedy.send("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    greedy.send(&chunk(&padded(40 * 1024))).await;
    // What is only announced takes nothing: this one may come, as long as it does not.
    let mut boaster = site.connect().await;
    boaster.send("POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n").await;
    let refused = async {
        loop {
            let answer = site.exchange(&post(&padded(60 * 1024))).await;
            if answer.status == 503 {
                break answer;
            }
        }
    };
    let answer = timeout(LIMIT, refused).await.unwrap();
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("body_memory", Some("1")));
    assert_eq!(answer.header("connection"), Some("close"));
    // Small events go on beside them, and the greedy one is taken whole.
    assert_eq!(site.exchange(&post(&padded(4 * 1024))).await.status, 200);
    greedy.send(&format!("{}0\r\n\r\n", chunk(&" ".repeat(16 * 1024)))).await;
    assert_eq!(greedy.answer().await.unwrap().status, 200);
    assert_eq!(site.exchange(&post(&padded(60 * 1024))).await.status, 200);
}

#[tokio::test]
async fn heads_are_as_large_and_have_as_many_fields_as_configured() {
    let head = |fields: &str| post(EVENT).replacen("\r\n", &format!("\r\n{fields}"), 1);
    let (long, many) = (format!("x: {}\r\n", "a".repeat(60 * 1024)), "x: a\r\n".repeat(150));
    let few = "x: a\r\n".repeat(50);
    for (max_head, max_headers, statuses) in
        [(64 * 1024, 100, [200, 431, 200]), (64 * 1024, 200, [200, 200, 200]), (8 * 1024, 20, [431, 431, 431])]
    {
        let site =
            Site::start(with(|listener| (listener.max_head, listener.max_headers) = (max_head, max_headers))).await;
        for (fields, status) in [&long, &many, &few].into_iter().zip(statuses) {
            assert_eq!(site.exchange(&head(fields)).await.status, status, "{max_head} {max_headers}");
        }
        assert_eq!(site.exchange(&post(EVENT)).await.status, 200);
    }
}

#[tokio::test]
async fn http2_connections_are_told_what_is_configured() {
    let site = Site::start(with(|listener| (listener.max_head, listener.http2_streams) = (16 * 1024, 7))).await;
    let mut stream = connect(&site, b"h2").await;
    stream.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2).
    for wanted in [[0, 3, 0, 0, 0, 7], [0, 6, 0, 0, 0x40, 0]] {
        assert!(settings.chunks(6).any(|setting| setting == wanted), "{settings:?}");
    }
}
