//! Who may call: networks, balancers, and what never changes a caller's address.

use super::support::{Client, EVENT, LIMIT, Site, Wanted, metric, post, post_to};
use ::settings::Networks;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse::<ipnet::IpNet>().unwrap()).collect()
}

fn from(texts: &[&str]) -> Wanted {
    Wanted { networks: networks(texts), ..Wanted::default() }
}

/// Behind a balancer on this machine; callers are taken from 192.0.2.0/24.
fn balanced() -> Wanted {
    let mut wanted = from(&["192.0.2.0/24"]);
    wanted.listener.proxy_protocol = true;
    wanted.listener.proxy_networks = networks(&["127.0.0.0/8"]);
    wanted
}

async fn behind(site: &Site, header: &[u8]) -> std::io::Result<Client> {
    site.tls_behind(header, site.client_builder().with_no_client_auth(), b"http/1.1").await.map(Client)
}

fn v2(source: [u8; 4]) -> Vec<u8> {
    let addresses = [source, [10, 0, 0, 1]].concat();
    // A TLV of 3 bytes behind the ports.
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x12"[..], &addresses, &[0x13, 0x88, 1, 187, 4, 0, 3, 1, 2, 3]].concat()
}

fn peer_of_last(site: &Site) -> String {
    let entries = site.inbox.entries();
    let sender: serde_json::Value = serde_json::from_str(entries.last().unwrap().sender.as_deref().unwrap()).unwrap();
    sender["peer"].as_str().unwrap().to_owned()
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    drop(timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("the connection ends in time"));
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_caller_from_elsewhere_is_403_whatever_its_headers_claim() {
    let site = Site::start(from(&["192.0.2.0/24", "2001:db8::/32"])).await;
    for (path, claim) in [
        ("/webhooks/linxo", ""),
        ("/elsewhere", ""),
        ("/webhooks/linxo", "x-forwarded-for: 192.0.2.7\r\n"),
        ("/webhooks/linxo", "forwarded: for=192.0.2.7\r\nx-real-ip: 192.0.2.7\r\ntrue-client-ip: 192.0.2.7\r\n"),
    ] {
        let mut client = site.connect().await;
        client.send(&post_to(path, claim, EVENT)).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (403, "network"));
        assert!(client.is_closed().await);
    }
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="network"}"#), 4);
    assert_eq!(site.inbox.stored(), 0);
}

#[tokio::test]
async fn a_caller_from_a_listed_network_is_served_under_its_own_address() {
    let site = Site::start(from(&["127.0.0.0/8"])).await;
    let claim = "x-forwarded-for: 203.0.113.1\r\nforwarded: for=203.0.113.1\r\n";
    assert_eq!(site.exchange(&post_to("/webhooks/linxo", claim, EVENT)).await.status, 200);
    assert!(peer_of_last(&site).starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn an_ipv4_caller_of_an_ipv6_listener_is_an_ipv4_caller() {
    let mut wanted = from(&["127.0.0.0/8"]);
    wanted.listener.address = Some("[::]:0".parse().unwrap());
    if TcpStream::connect("[::1]:9").await.is_err_and(|error| error.kind() != std::io::ErrorKind::ConnectionRefused) {
        // No IPv6 here.
        return;
    }
    let mut site = Site::start(wanted).await;
    site.address.set_ip([127, 0, 0, 1].into());
    assert_eq!(site.exchange(&post(EVENT)).await.status, 200);
    assert!(peer_of_last(&site).starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn a_balancer_names_the_caller_by_either_version() {
    let site = Site::start(balanced()).await;
    for header in [
        &b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n"[..],
        b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5000 443\r\n",
        &v2([192, 0, 2, 7]),
    ] {
        let mut client = behind(&site, header).await.unwrap();
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().status, 200, "{}", header.escape_ascii());
        assert_eq!(peer_of_last(&site), "192.0.2.7:5000");
    }
    for header in [
        &b"PROXY TCP4 198.51.100.7 10.0.0.1 5000 443\r\n"[..],
        &v2([198, 51, 100, 7]),
        // The balancer's own connections have its own address.
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    ] {
        let mut client = behind(&site, header).await.unwrap();
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().status, 403, "{}", header.escape_ascii());
    }
    assert_eq!(site.inbox.stored(), 3);
}

#[tokio::test]
async fn without_a_sound_header_there_is_no_handshake() {
    let site = Site::start(balanced()).await;
    assert!(behind(&site, b"").await.is_err());
    assert!(behind(&site, b"PROXY TCP4 192.0.2.7 10.0.0.1 5000\r\n").await.is_err());
    assert!(behind(&site, &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat()).await.is_err());
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="proxy_invalid"}"#), 3);
    // A look whether the port is open is no refusal.
    let mut probe = TcpStream::connect(site.address).await.unwrap();
    probe.shutdown().await.unwrap();
    ends(&mut probe).await;
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="proxy_invalid"}"#), 3);
}

#[tokio::test]
async fn a_header_is_not_waited_for_without_end() {
    let mut wanted = balanced();
    wanted.listener.handshake_timeout = Duration::from_millis(150);
    let site = Site::start(wanted).await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    let mut half = TcpStream::connect(site.address).await.unwrap();
    half.write_all(b"PROXY TCP4 192.0.2.7 ").await.unwrap();
    ends(&mut silent).await;
    ends(&mut half).await;
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="proxy_timeout"}"#), 1);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="probe"}"#), 1);
}

#[tokio::test]
async fn nobody_but_the_balancer_names_a_caller() {
    let mut wanted = balanced();
    wanted.listener.proxy_protocol = true;
    wanted.listener.proxy_networks = networks(&["10.0.0.0/8"]);
    let site = Site::start(wanted).await;
    assert!(behind(&site, b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n").await.is_err());
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="proxy_untrusted"}"#), 1);
    // Where no balancer is configured, its header is no TLS.
    let site = Site::start(Wanted::default()).await;
    assert!(behind(&site, b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 443\r\n").await.is_err());
}

#[tokio::test]
async fn what_is_refused_is_kept_and_its_body_only_of_known_callers() {
    let refused = async |wanted: Wanted, path: &str| {
        let site = Site::start(wanted).await;
        site.exchange(&post_to(path, "", &format!("{{\"canary\"{}", "x".repeat(2000)))).await;
        let inbox = std::sync::Arc::clone(&site.inbox);
        site.stop();
        site.stopped().await;
        let mut kept = inbox.refused();
        assert_eq!(kept.len(), 1);
        kept.remove(0)
    };
    let anybody = refused(Wanted::default(), "/webhooks/linxo").await;
    // (C9) Whose request it was decides what displaces it.
    assert!(!anybody.is_known);
    assert_eq!((anybody.reason, anybody.status, anybody.size, anybody.start), ("not_json", 400, Some(2009), None));
    assert!(anybody.sender.contains("127.0.0.1"));
    let secret = || Wanted { secrets: vec!["a-path-secret"], ..Wanted::default() };
    let right = refused(secret(), "/webhooks/linxo/a-path-secret").await;
    assert!(right.is_known);
    assert_eq!(right.start.map(|start| start.len()), Some(512));
    let wrong = refused(secret(), "/webhooks/linxo/another-one").await;
    assert_eq!((wrong.reason, wrong.size, wrong.start, wrong.is_known), ("not_found", Some(2009), None, false));
    let listed = refused(from(&["127.0.0.1/32"]), "/webhooks/linxo").await;
    assert!(listed.is_known && listed.start.unwrap().starts_with(b"{\"canary\"xxx"));
    let foreign = refused(from(&["192.0.2.0/24"]), "/webhooks/linxo").await;
    assert_eq!((foreign.reason, foreign.start), ("network", None));
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_wear_the_disk() {
    let site = Site::start(Wanted::default()).await;
    let mut client = site.connect().await;
    for _ in 0..200 {
        client.send(&post_to("/elsewhere", "", "")).await;
        assert_eq!(client.answer().await.unwrap().status, 404);
    }
    let (inbox, metrics) = (std::sync::Arc::clone(&site.inbox), std::sync::Arc::clone(&site.metrics));
    site.stop();
    site.stopped().await;
    let kept = inbox.refused().len() as u64;
    assert!((1..200).contains(&kept), "{kept}");
    let unkept = metric(&metrics, "linxo_webhook_refused_unkept_total");
    assert_eq!(unkept + kept, 200);
}
