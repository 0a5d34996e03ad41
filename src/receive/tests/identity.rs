//! Client certificates, sessions and protocol versions.

use super::support::{Client, Clients, EVENT, LIMIT, Site, Wanted, post};
use crate::receive::settings::TlsVersion;
use base::clock;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use double::pki::{self, Authority, Identity, KeyKind, Leaf, Usage};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

const DAY: Duration = Duration::from_hours(24);
const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];

fn leaf() -> Leaf {
    Leaf::client("Sender", &["sender.example"])
}

fn clients(site: &Site, versions: &[&'static SupportedProtocolVersion], identity: Option<&Identity>) -> ClientConfig {
    let builder = site.client_builder_for(versions);
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = aws_lc_rs::sign::any_supported_type(&identity.key().unwrap()).unwrap();
            // Callers may show what does not fit together; rustls itself would not.
            let certified = CertifiedKey::new(identity.certificates().unwrap(), key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    }
}

/// Sends an event; the status, or `None` when not one byte of HTTP came.
async fn post_with(site: &Site, config: ClientConfig) -> Option<u16> {
    // With TLS 1.3 the caller's handshake is over before the server has seen its certificate.
    let mut client = Client(site.tls(config, b"http/1.1").await.ok()?);
    tokio::io::AsyncWriteExt::write_all(&mut client.0, post(EVENT).as_bytes()).await.ok()?;
    client.answer().await.map(|answer| answer.status)
}

fn verdicts(site: &Site, verdict: &str) -> u64 {
    site.metric(&format!(r#"linxo_webhook_client_certificates_total{{verdict="{verdict}"}}"#))
}

/// Every kind of caller, with what becomes of it where certificates are required.
fn callers(ours: &Authority, second: &Authority) -> Vec<(Option<Identity>, &'static str)> {
    let issue = |leaf: Leaf| Some(ours.issue(&leaf).unwrap());
    let middle = ours.intermediate("Middle").unwrap();
    vec![
        (issue(leaf()), "ok"),
        (issue(Leaf { key: KeyKind::P384, ..leaf() }), "ok"),
        (issue(Leaf { key: KeyKind::Rsa2048, ..leaf() }), "ok"),
        (issue(Leaf { usage: Usage::Any, ..leaf() }), "ok"),
        (issue(Leaf { unknown_extension: Some(false), ..leaf() }), "ok"),
        (Some(middle.issue(&leaf()).unwrap()), "ok"),
        (Some(second.issue(&leaf()).unwrap()), "ok"),
        (None, "no_certificate"),
        (Some(Authority::new("Theirs").unwrap().issue(&leaf()).unwrap()), "unknown_authority"),
        (Some(pki::self_signed(&leaf()).unwrap()), "unknown_authority"),
        (issue(leaf().expired()), "expired"),
        (issue(leaf().not_yet_valid()), "not_yet_valid"),
        (issue(Leaf { usage: Usage::Server, ..leaf() }), "wrong_usage"),
        (issue(Leaf { unknown_extension: Some(true), ..leaf() }), "malformed"),
        (Some(ours.identity()), "malformed"),
        (
            Some(Identity { key_pem: second.issue(&leaf()).unwrap().key_pem, ..ours.issue(&leaf()).unwrap() }),
            "bad_signature",
        ),
    ]
}

#[tokio::test]
async fn only_a_certificate_of_an_authority_of_ours_gets_an_answer() {
    let (ours, second) = (Authority::new("Ours").unwrap(), Authority::new("Second").unwrap());
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours, &second])), ..Wanted::default() }).await;
    let mut accepted = 0;
    for version in VERSIONS {
        for (identity, verdict) in callers(&ours, &second) {
            let before = verdicts(&site, verdict);
            let status = post_with(&site, clients(&site, version, identity.as_ref())).await;
            assert_eq!(status, (verdict == "ok").then_some(200), "{verdict}");
            assert_eq!(verdicts(&site, verdict), before + 1, "{verdict}");
            accepted += usize::from(verdict == "ok");
        }
    }
    assert_eq!(site.inbox.stored(), accepted);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="client_certificate"}"#), 18);
    let sender = site.inbox.entries()[0].sender.clone().unwrap();
    let sender: serde_json::Value = serde_json::from_str(&sender).unwrap();
    let certificate = &sender["certificate"];
    assert!(certificate["subject"].as_str().unwrap().contains("CN=Sender"));
    assert!(certificate["issuer"].as_str().unwrap().contains("CN=Ours"));
    assert_eq!(certificate["names"], serde_json::json!(["sender.example"]));
    assert_eq!(certificate["fingerprint"].as_str().unwrap().len(), 64);
    assert!(sender.get("would_be_refused").is_none());
    let ends = u64::try_from(leaf().not_after.as_millis() / 1000).unwrap();
    assert!(site.metric("linxo_webhook_client_certificate_expiry_timestamp_seconds").abs_diff(ends) < 100);
}

#[tokio::test]
async fn observing_admits_everybody_and_counts_who_would_be_refused() {
    let (ours, second) = (Authority::new("Ours").unwrap(), Authority::new("Second").unwrap());
    let observed = Clients { observe: true, ..Clients::of(&[&ours, &second]) };
    let site = Site::start(Wanted { clients: Some(observed), ..Wanted::default() }).await;
    for version in VERSIONS {
        for (identity, verdict) in callers(&ours, &second) {
            let before = verdicts(&site, verdict);
            let config = clients(&site, version, identity.as_ref());
            assert_eq!(post_with(&site, config).await, Some(200), "{verdict}");
            assert_eq!(verdicts(&site, verdict), before + 1, "{verdict}");
            let sender = site.inbox.entries().last().unwrap().sender.clone().unwrap();
            let sender: serde_json::Value = serde_json::from_str(&sender).unwrap();
            assert_eq!(sender.get("certificate").is_some(), verdict == "ok", "{verdict}");
            assert_eq!(sender.get("would_be_refused").is_some(), verdict != "ok", "{verdict}");
        }
    }
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="client_certificate"}"#), 0);
}

#[tokio::test]
async fn names_and_keys_narrow_down_whom_an_authority_vouches_for() {
    let ours = Authority::new("Ours").unwrap();
    let good = ours.issue(&leaf()).unwrap();
    let other = ours.client("Somebody else", &["other.example"]).unwrap();
    // The sign for Kelvin, which is a small k to those who fold the case of every script.
    let kelvin = ours.client("\u{212a}-sender", &["kelvin.example"]).unwrap();
    let chain = good.certificates().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let fingerprint = HEXLOWER.encode(&Sha256::digest(parsed.public_key().raw));
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    for (names, subjects, fingerprints, refusal) in [
        (vec!["sender.example"], vec![], vec![], "name_not_listed"),
        (vec!["nobody.example"], vec!["sender"], vec![], "name_not_listed"),
        (vec![], vec!["nobody", "sender"], vec![], "name_not_listed"),
        (vec![], vec![], vec![fingerprint.as_str()], "fingerprint_not_listed"),
        (vec!["other.example"], vec!["sender"], vec![&fingerprint], "fingerprint_not_listed"),
    ] {
        let own = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let (names, subjects) = (own(names), own(subjects));
        let bounds = Clients { names, subjects, fingerprints: own(fingerprints), ..Clients::of(&[&ours]) };
        site.reload(&bounds);
        for version in VERSIONS {
            let before = verdicts(&site, refusal);
            assert_eq!(post_with(&site, clients(&site, version, Some(&good))).await, Some(200));
            assert_eq!(post_with(&site, clients(&site, version, Some(&other))).await, None);
            assert_eq!(verdicts(&site, refusal), before + 1, "{refusal}");
        }
    }
    site.reload(&Clients { subjects: vec!["k-sender".to_owned()], ..Clients::of(&[&ours]) });
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&kelvin))).await, None);
    let ascii = ours.client("K-Sender", &["kelvin.example"]).unwrap();
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&ascii))).await, Some(200));
    // Nothing that a certificate says counts without an authority.
    let impostor = Authority::new("Theirs").unwrap().issue(&leaf()).unwrap();
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&impostor))).await, None);
    assert_eq!(verdicts(&site, "unknown_authority"), 1);
}

/// (C4) An authority below ours may be held to another domain, and still write any common name into a certificate.
#[tokio::test]
async fn a_common_name_is_no_dns_name() {
    let ours = Authority::new("Ours").unwrap();
    let below = ours.intermediate("Constrained").unwrap();
    let impostor = below.client("linxo.example", &["elsewhere.example"]).unwrap();
    let nameless = below.client("linxo.example", &[""; 0]).unwrap();
    let good = below.client("Linxo", &["LINXO.example"]).unwrap();
    let names = vec!["linxo.example".to_owned()];
    let clients_of = Clients { names: names.clone(), ..Clients::of(&[&ours]) };
    let site = Site::start(Wanted { clients: Some(clients_of), ..Wanted::default() }).await;
    for version in VERSIONS {
        assert_eq!(post_with(&site, clients(&site, version, Some(&impostor))).await, None);
        assert_eq!(post_with(&site, clients(&site, version, Some(&nameless))).await, None);
        assert_eq!(post_with(&site, clients(&site, version, Some(&good))).await, Some(200));
    }
    assert_eq!(verdicts(&site, "name_not_listed"), 4);
    site.reload(&Clients { subjects: names, ..Clients::of(&[&ours]) });
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&nameless))).await, Some(200));
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&good))).await, None);
}

/// (C5) An authority that changed its key is two of one name, each with a list of its own.
#[tokio::test]
async fn authorities_of_one_name_have_lists_of_their_own() {
    let (old, new) = (Authority::new("Ours").unwrap(), Authority::new("Ours").unwrap());
    let of = |authority: &Authority| (authority.issue(&leaf()).unwrap(), authority.issue(&leaf()).unwrap());
    let ((old_good, old_revoked), (new_good, new_revoked)) = (of(&old), of(&new));
    let below = old.intermediate("Middle").unwrap();
    let other_below = old.intermediate("Middle").unwrap();
    let ((below_good, below_revoked), (other_good, _)) = (of(&below), of(&other_below));
    let list = |authority: &Authority, serial: &[u8], ends| authority.revocation_list(&[serial], ends).unwrap();
    let (soon, past) = (clock::now().after(DAY), clock::now().before(DAY));
    let lists = [
        list(&old, &old_revoked.serial, soon),
        list(&new, &new_revoked.serial, soon),
        list(&below, &below_revoked.serial, soon),
        list(&other_below, &[1], soon),
        // Older lists of the same keys are of no account.
        list(&old, &old_good.serial, past),
        list(&new, &new_good.serial, past),
    ];
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&old, &new])), ..Wanted::default() }).await;
    for authorities in [[&old, &new], [&new, &old]] {
        for backwards in [false, true] {
            let mut revocations = lists.to_vec();
            if backwards {
                revocations.reverse();
            }
            site.reload(&Clients { revocations, ..Clients::of(&authorities) });
            for (identity, verdict) in [
                (&old_good, "ok"),
                (&new_good, "ok"),
                (&below_good, "ok"),
                (&other_good, "ok"),
                (&old_revoked, "revoked"),
                (&new_revoked, "revoked"),
                (&below_revoked, "revoked"),
            ] {
                let before = verdicts(&site, verdict);
                let status = post_with(&site, clients(&site, VERSIONS[0], Some(identity))).await;
                assert_eq!(status, (verdict == "ok").then_some(200), "{verdict}");
                assert_eq!(verdicts(&site, verdict), before + 1, "{verdict}");
            }
        }
    }
    // The list of one key says nothing about the other.
    site.reload(&Clients { revocations: vec![lists[0].clone()], ..Clients::of(&[&old, &new]) });
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&old_good))).await, Some(200));
    assert_eq!(post_with(&site, clients(&site, VERSIONS[0], Some(&new_good))).await, None);
}

/// (C7) Public authorities stop issuing certificates for clients during 2026.
#[tokio::test]
async fn a_certificate_made_only_for_servers_is_taken_where_that_is_allowed() {
    let ours = Authority::new("Ours").unwrap();
    let server = ours.issue(&Leaf { usage: Usage::Server, ..leaf() }).unwrap();
    let names = vec!["sender.example".to_owned()];
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    for version in VERSIONS {
        for any_usage in [false, true] {
            site.reload(&Clients { any_usage, names: names.clone(), ..Clients::of(&[&ours]) });
            let status = post_with(&site, clients(&site, version, Some(&server))).await;
            assert_eq!(status, any_usage.then_some(200));
        }
        let client = ours.issue(&leaf()).unwrap();
        assert_eq!(post_with(&site, clients(&site, version, Some(&client))).await, Some(200));
    }
    assert_eq!(verdicts(&site, "wrong_usage"), 2);
}

#[tokio::test]
async fn revocations_hold_and_their_lack_refuses() {
    let (ours, second) = (Authority::new("Ours").unwrap(), Authority::new("Second").unwrap());
    let (good, revoked) = (ours.issue(&leaf()).unwrap(), ours.issue(&leaf()).unwrap());
    let uncovered = second.issue(&leaf()).unwrap();
    let below = ours.intermediate("Middle").unwrap().issue(&leaf()).unwrap();
    let both = [&ours, &second];
    let list = |ends| ours.revocation_list(&[&revoked.serial], ends).unwrap();
    let (fresh, stale) = (list(clock::now().after(DAY)), list(clock::now().before(DAY)));
    let with = |revocations: &[&String]| Clients {
        revocations: revocations.iter().map(|list| (*list).clone()).collect(),
        ..Clients::of(&both)
    };
    let site = Site::start(Wanted { clients: Some(with(&[&fresh])), ..Wanted::default() }).await;
    assert!(site.metric("linxo_webhook_tls_revocations_expiry_timestamp_seconds") > 0);
    for (lists, rows) in [
        (
            vec![&fresh],
            [
                (&good, "ok"),
                (&revoked, "revoked"),
                (&uncovered, "unknown_revocation_status"),
                (&below, "unknown_revocation_status"),
            ],
        ),
        (
            vec![&stale],
            [
                (&good, "crl_expired"),
                (&revoked, "crl_expired"),
                (&uncovered, "unknown_revocation_status"),
                (&below, "crl_expired"),
            ],
        ),
        // The newest list of an authority is the one that counts, wherever it stands.
        (
            vec![&stale, &fresh],
            [
                (&good, "ok"),
                (&revoked, "revoked"),
                (&uncovered, "unknown_revocation_status"),
                (&below, "unknown_revocation_status"),
            ],
        ),
        (vec![], [(&good, "ok"), (&revoked, "ok"), (&uncovered, "ok"), (&below, "ok")]),
    ] {
        site.reload(&with(&lists));
        for (identity, verdict) in rows {
            for version in VERSIONS {
                let before = verdicts(&site, verdict);
                let status = post_with(&site, clients(&site, version, Some(identity))).await;
                assert_eq!(status, (verdict == "ok").then_some(200), "{verdict}");
                assert_eq!(verdicts(&site, verdict), before + 1, "{verdict}");
            }
        }
    }
}

/// Connects twice and sends an event each time; how the second handshake went.
async fn resume(site: &Site, config: &ClientConfig) -> Option<HandshakeKind> {
    let mut kind = None;
    for _ in 0..2 {
        let mut client = Client(site.tls(config.clone(), b"http/1.1").await.ok()?);
        tokio::io::AsyncWriteExt::write_all(&mut client.0, post(EVENT).as_bytes()).await.ok()?;
        assert_eq!(client.answer().await?.status, 200);
        kind = client.0.get_ref().1.handshake_kind();
    }
    kind
}

#[tokio::test]
async fn sessions_are_resumed_until_the_settings_change() {
    let ours = Authority::new("Ours").unwrap();
    let identity = ours.issue(&leaf()).unwrap();
    let list = ours.revocation_list(&[&identity.serial], clock::now().after(DAY)).unwrap();
    for version in VERSIONS {
        let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
        let config = clients(&site, version, Some(&identity));
        assert_eq!(resume(&site, &config).await, Some(HandshakeKind::Resumed));
        assert_eq!(verdicts(&site, "ok"), 2, "a resumed session has its certificate");
        site.reload(&Clients { revocations: vec![list.clone()], ..Clients::of(&[&ours]) });
        assert_eq!(resume(&site, &config).await, None);
        assert_eq!(verdicts(&site, "revoked"), 1);

        site.reload(&Clients { observe: true, ..Clients::of(&[&ours]) });
        assert_eq!(resume(&site, &config).await, Some(HandshakeKind::Full), "each observed handshake is judged");
    }
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_its_certificate() {
    let ours = Authority::new("Ours").unwrap();
    let ends = clock::now().after(Duration::from_secs(2));
    let identity = ours.issue(&Leaf { not_after: ends, ..leaf() }).unwrap();
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    let config = clients(&site, VERSIONS[0], Some(&identity));
    assert_eq!(resume(&site, &config).await, Some(HandshakeKind::Resumed));
    while clock::now() <= ends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(post_with(&site, config).await, None);
    assert_eq!(verdicts(&site, "expired"), 1);
}

#[tokio::test]
async fn connections_of_replaced_settings_are_ended() {
    let ours = Authority::new("Ours").unwrap();
    let identity = ours.issue(&leaf()).unwrap();
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    let config = clients(&site, VERSIONS[0], Some(&identity));
    let connect = || async { Client(site.tls(config.clone(), b"http/1.1").await.unwrap()) };
    let (mut idle, mut late, mut fresh) = (connect().await, connect().await, connect().await);
    for client in [&mut idle, &mut late] {
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().header("connection"), None);
    }
    let theirs = Clients::of(&[&Authority::new("Theirs").unwrap()]);
    site.reload(&theirs);
    // Idle ones are closed a moment later only; what comes meanwhile is answered, and told that it is the last.
    late.send(&post(EVENT)).await;
    let answer = late.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(late.is_closed().await && idle.is_closed().await);
    fresh.send(&post(EVENT)).await;
    assert_eq!(fresh.answer().await.unwrap().header("connection"), Some("close"));
    assert!(fresh.is_closed().await);
    assert_eq!(post_with(&site, config).await, None);

    let site = Site::start(Wanted::default()).await;
    let stream = site.tls(site.client_builder().with_no_client_auth(), b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("https://localhost/webhooks/linxo").body(Full::new(Bytes::from(EVENT))).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    site.reload(&theirs);
    tokio::time::timeout(LIMIT, connection).await.expect("HTTP/2 is told by GOAWAY").unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_certificate_is_told_by_an_alert() {
    let ours = Authority::new("Ours").unwrap();
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    let mut stream = site.tls(site.client_builder().with_no_client_auth(), b"http/1.1").await.unwrap();
    let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn the_minimum_version_is_kept() {
    let site = Site::start(Wanted { minimum_version: TlsVersion::V1_3, ..Wanted::default() }).await;
    let old = site.client_builder_for(&[&rustls::version::TLS12]).with_no_client_auth();
    assert_eq!(post_with(&site, old).await, None);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="tls_incompatible"}"#), 1);
    assert_eq!(post_with(&site, site.client_builder().with_no_client_auth()).await, Some(200));
}

/// A caller that minds the name refuses by itself; the others are served.
#[tokio::test]
async fn any_server_name_or_none_is_answered() {
    let site = Site::start(Wanted::default()).await;
    for name in ["127.0.0.1", "localhost"] {
        let mut config = site.client_builder().with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = tokio::net::TcpStream::connect(site.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let mut client = Client(stream);
        client.send(&post(EVENT)).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_revoked_intermediate_takes_all_below_it_along() {
    let ours = Authority::new("Ours").unwrap();
    let middle = ours.intermediate("Middle").unwrap();
    let below = middle.issue(&leaf()).unwrap();
    let chain = middle.identity().certificates().unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let (soon, nothing) = (clock::now().after(DAY), [[0; 0]; 0]);
    let own = middle.revocation_list(&nothing, soon).unwrap();
    let clean = ours.revocation_list(&nothing, soon).unwrap();
    let stale = ours.revocation_list(&nothing, clock::now().before(DAY)).unwrap();
    let revoking = ours.revocation_list(&[parsed.raw_serial()], soon).unwrap();
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    for (lists, verdict) in [
        (vec![&own, &clean], "ok"),
        // An intermediate needs no list; a caller's own certificate does.
        (vec![&own], "ok"),
        (vec![&clean], "unknown_revocation_status"),
        (vec![&own, &revoking], "revoked"),
        (vec![&revoking], "revoked"),
        (vec![&own, &stale], "crl_expired"),
    ] {
        site.reload(&Clients { revocations: lists.into_iter().cloned().collect(), ..Clients::of(&[&ours]) });
        for version in VERSIONS {
            let before = verdicts(&site, verdict);
            let status = post_with(&site, clients(&site, version, Some(&below))).await;
            assert_eq!(status, (verdict == "ok").then_some(200), "{verdict}");
            assert_eq!(verdicts(&site, verdict), before + 1, "{verdict}");
        }
    }
}

#[tokio::test]
async fn chains_may_be_untidy_but_not_endless() {
    let ours = Authority::new("Ours").unwrap();
    let below = |depth: usize| {
        let mut authority = ours.intermediate("Middle 1").unwrap();
        for number in 2..=depth {
            authority = authority.intermediate(&format!("Middle {number}")).unwrap();
        }
        authority.issue(&leaf()).unwrap()
    };
    let reordered = |identity: &Identity, order: &[usize], more: &str| {
        let blocks: Vec<_> = identity.certificate_pem.split_inclusive("-----END CERTIFICATE-----").collect();
        let picked: String = order.iter().map(|at| blocks[*at].trim_start().to_owned() + "\n").collect();
        Identity { certificate_pem: picked + more, key_pem: identity.key_pem.clone(), serial: Vec::new() }
    };
    let two = below(2);
    let stranger = Authority::new("Stranger").unwrap();
    let site = Site::start(Wanted { clients: Some(Clients::of(&[&ours])), ..Wanted::default() }).await;
    for (what, identity, verdict) in [
        ("as it should be", reordered(&two, &[0, 1, 2], ""), "ok"),
        ("intermediates in the wrong order", reordered(&two, &[0, 2, 1], ""), "ok"),
        ("an intermediate twice", reordered(&two, &[0, 1, 1, 2], ""), "ok"),
        ("with its root", reordered(&two, &[0, 1, 2], ours.certificate_pem()), "ok"),
        ("with a stranger", reordered(&two, &[0, 1, 2], stranger.certificate_pem()), "ok"),
        ("without the one in between", reordered(&two, &[0, 2], ""), "unknown_authority"),
        ("an authority first", reordered(&two, &[1, 0, 2], ""), "malformed"),
        ("as long as it may be", below(6), "ok"),
        ("too long", below(8), "malformed"),
    ] {
        for version in VERSIONS {
            let before = verdicts(&site, verdict);
            let status = post_with(&site, clients(&site, version, Some(&identity))).await;
            assert_eq!(status, (verdict == "ok").then_some(200), "{what}");
            assert_eq!(verdicts(&site, verdict), before + 1, "{what}\n{}", site.metrics.encode());
        }
    }
}
