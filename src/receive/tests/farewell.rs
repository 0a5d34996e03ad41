//! The end of a connection that does not go by itself: the TLS settings were replaced that it began with, or its client
//! certificate has ended. Frames of HTTP/2 are written by hand, because no client library ignores a GOAWAY.

use super::{
    flood::{END_HEADERS, END_STREAM, PREFACE, frame, head, kind},
    support::{Client, Clients, EVENT, LIMIT, Site, Wanted, post, wait_for},
};
use base::clock::{self, Timestamp};
use double::pki::{Authority, Identity, Leaf};
use rustls::ClientConfig;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::client::TlsStream;

/// From the announcement of the end to the last request that is taken: a second, and some time for slow machines.
const NOTICE: Duration = Duration::from_millis(1500);

fn leaf() -> Leaf {
    Leaf::client("Sender", &["sender.example"])
}

fn config(site: &Site, identity: &Identity) -> ClientConfig {
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    site.client_builder().with_client_auth_cert(identity.certificates().unwrap(), key).unwrap()
}

/// The longest that a told connection may stay: body, commit, farewell.
const LONGEST: Duration = Duration::from_millis(1000 + 500 + 2000);

async fn site(ours: &Authority) -> Site {
    let mut wanted = Wanted { clients: Some(Clients::of(&[ours])), ..Wanted::default() };
    wanted.listener.body_timeout = Duration::from_secs(1);
    wanted.commit_timeout = Duration::from_millis(500);
    Site::start(wanted).await
}

/// Posts events for as long as it can. It answers no PING, heeds no GOAWAY, and always has a request open.
fn persist(stream: TlsStream<TcpStream>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            writer.write_all(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await?;
            let begin = |stream| frame(kind::HEADERS, END_HEADERS, stream, &head("/webhooks/linxo"));
            let end = |stream| frame(kind::DATA, END_STREAM, stream, EVENT.as_bytes());
            writer.write_all(&begin(1)).await?;
            for stream in (3..).step_by(2) {
                // The next one begins before the one before ends.
                writer.write_all(&[begin(stream), end(stream - 2)].concat()).await?;
                writer.flush().await?;
                sleep(Duration::from_millis(20)).await;
            }
            std::io::Result::Ok(())
        };
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = write => {}
            _ = tokio::io::copy(&mut reader, &mut nowhere) => {}
        }
    })
}

/// What a caller that goes on may still do from `end` on: nothing after the notice, and it is gone in the end.
async fn is_ended(site: &Site, caller: JoinHandle<()>, end: Instant) {
    tokio::time::sleep_until(end + NOTICE).await;
    let taken = site.inbox.stored();
    timeout(LIMIT, caller).await.expect("it is ended").unwrap();
    assert_eq!(site.inbox.stored(), taken, "nothing is taken after the notice");
    assert!(site.metric(r#"linxo_webhook_refused_total{reason="connection_over"}"#) > 0);
    let took = end.elapsed();
    assert!(took < LONGEST + Duration::from_secs(3), "{took:?}");
    wait_for(|| site.metric("linxo_webhook_connections") == 0).await;
}

/// (C2) A revoked caller that overlaps its requests does not stay in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_caller_is_ended_whatever_it_does() {
    let ours = Authority::new("Ours").unwrap();
    let identity = ours.issue(&leaf()).unwrap();
    let site = site(&ours).await;
    let caller = persist(site.tls(config(&site, &identity), b"h2").await.unwrap());
    site.inbox.wait_for(3).await;
    let list = ours.revocation_list(&[&identity.serial], clock::now().after(Duration::from_hours(1))).unwrap();
    site.reload(&Clients { revocations: vec![list], ..Clients::of(&[&ours]) });
    is_ended(&site, caller, Instant::now()).await;
}

fn soon(ends: Timestamp) -> Instant {
    Instant::now() + ends.since(clock::now())
}

/// (C2) A connection ends with the certificate that it began with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_does_not_outlive_its_certificate() {
    let ours = Authority::new("Ours").unwrap();
    // Certificates have whole seconds.
    let ends = Timestamp::from_millis((clock::now().as_millis() / 1000 + 3) * 1000);
    let identity = ours.issue(&Leaf { not_after: ends, ..leaf() }).unwrap();
    let site = site(&ours).await;
    let caller = persist(site.tls(config(&site, &identity), b"h2").await.unwrap());
    let mut kept = Client(site.tls(config(&site, &identity), b"http/1.1").await.unwrap());
    let mut idle = Client(site.tls(config(&site, &identity), b"http/1.1").await.unwrap());
    idle.send(&post(EVENT)).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let keeping = async {
        loop {
            kept.send(&post(EVENT)).await;
            let answer = kept.answer().await.expect("the last answer says that it is the last");
            assert_eq!(answer.status, 200);
            if answer.header("connection") == Some("close") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, keeping).await.expect("the end is announced");
    assert!(clock::now() <= ends.after(Duration::from_secs(1)));
    assert!(kept.is_closed().await && idle.is_closed().await);
    is_ended(&site, caller, soon(ends)).await;
}
