//! Attacks by volume and by slowness: each is ended or absorbed, and an honest caller beside it is served.
//!
//! The HTTP/2 floods are frames written by hand, because no client library would send them.

use super::support::{EVENT, LIMIT, Site, Wanted, post, wait_for};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::client::TlsStream;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frame (RFC 9113 section 6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// HPACK: POST, https, this path (RFC 7541 appendix A).
pub(super) fn head(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x83, 0x87, 0x04, length], path.as_bytes(), &[0x01, 9], b"localhost"].concat()
}

fn request(stream: u32, flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, flags | END_HEADERS, stream, &head("/webhooks/linxo"))
}

/// An attack: what opens it, and what it repeats, by number from 0.
struct Attack {
    name: &'static str,
    /// What it is refused for when its answers are read.
    reason: &'static str,
    open: Vec<u8>,
    repeat: fn(u32) -> Vec<u8>,
}

fn attacks() -> Vec<Attack> {
    let open = |more: &[u8]| [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), more].concat();
    let unended_head = || frame(kind::HEADERS, 0, 1, &head("/webhooks/linxo"));
    vec![
        Attack {
            name: "rapid reset",
            reason: "http2_abuse",
            open: open(&[]),
            repeat: |n| [request(2 * n + 1, 0), frame(kind::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat(),
        },
        Attack {
            name: "reset by our own errors",
            reason: "http2_malformed",
            open: open(&[]),
            // A window update of 0 makes the server reset the stream.
            repeat: |n| [request(2 * n + 1, 0), frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat(),
        },
        Attack {
            name: "continuation without end",
            reason: "http2_malformed",
            open: open(&unended_head()),
            repeat: |_| {
                frame(kind::CONTINUATION, 0, 1, &[&[0x00, 1, b'x', 127, 0xa1, 0x7d][..], &[b'a'; 16_000]].concat())
            },
        },
        Attack {
            name: "small continuations",
            reason: "http2_abuse",
            open: open(&unended_head()),
            repeat: |_| frame(kind::CONTINUATION, 0, 1, &[0x00, 1, b'x', 1, b'y']),
        },
        Attack {
            name: "empty continuations",
            reason: "http2_abuse",
            open: open(&unended_head()),
            repeat: |_| frame(kind::CONTINUATION, 0, 1, &[]),
        },
        Attack {
            name: "settings",
            reason: "silent",
            open: open(&[]),
            repeat: |n| frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &(n % 65_535).to_be_bytes()].concat()),
        },
        Attack {
            name: "pings",
            reason: "silent",
            open: open(&[]),
            repeat: |n| frame(kind::PING, 0, 0, &u64::from(n).to_be_bytes()),
        },
        Attack {
            name: "priorities",
            reason: "silent",
            open: open(&[]),
            repeat: |n| frame(kind::PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 9]),
        },
        Attack {
            name: "window updates",
            reason: "silent",
            open: open(&[]),
            repeat: |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        },
        Attack {
            name: "frames of unknown types",
            reason: "silent",
            open: open(&[]),
            repeat: |_| frame(99, 0, 0, &[7; 100]),
        },
        Attack {
            name: "empty data in an open request",
            reason: "http2_abuse",
            open: open(&request(1, 0)),
            repeat: |_| frame(kind::DATA, 0, 1, &[]),
        },
        Attack {
            name: "more streams than allowed",
            reason: "http2_abuse",
            open: open(&[]),
            repeat: |n| request(2 * n + 1, 0),
        },
        Attack {
            name: "requests whose answers nobody reads",
            reason: "http2_abuse",
            open: open(&[]),
            repeat: |n| request(2 * n + 1, END_STREAM),
        },
        Attack {
            name: "a bomb of indexed fields",
            reason: "http2_abuse",
            open: open(&[]),
            repeat: |n| {
                // One large field in the table, then a thousand references to it.
                let field = [&[0x40, 1, b'x', 127, 0xa1, 0x1d][..], &[b'a'; 3872]].concat();
                frame(
                    kind::HEADERS,
                    END_STREAM | END_HEADERS,
                    2 * n + 1,
                    &[head("/"), field, vec![0xbe; 1000]].concat(),
                )
            },
        },
    ]
}

fn patient_for(limit: Duration) -> Wanted {
    let mut wanted = Wanted::default();
    let listener = &mut wanted.listener;
    listener.max_connections = 1000;
    listener.max_connections_per_address = 1000;
    listener.max_handshakes = 1000;
    listener.max_requests = 2000;
    listener.handshake_timeout = LIMIT / 4;
    (listener.header_timeout, listener.body_timeout, listener.idle_timeout) = (limit, limit, limit);
    wanted
}

pub(super) async fn connect(site: &Site, alpn: &[u8]) -> TlsStream<TcpStream> {
    site.tls(site.client_builder().with_no_client_auth(), alpn).await.unwrap()
}

/// Sends until the server has had enough; reads what comes meanwhile, or leaves it.
async fn run(mut stream: TlsStream<TcpStream>, attack: Attack, reads: bool) {
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(&attack.open).await?;
        for n in 0_u32.. {
            writer.write_all(&(attack.repeat)(n % 0x3fff_ffff)).await?;
            if n % 64 == 0 {
                writer.flush().await?;
                // The server runs in the same thread.
                tokio::task::yield_now().await;
            }
        }
        std::io::Result::Ok(())
    };
    let read = async {
        if reads {
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.map(drop)
        } else {
            std::future::pending().await
        }
    };
    let ended = async {
        tokio::select! {
            // Either side may see the end first.
            _ = write => {}
            _ = read => {}
        }
    };
    timeout(LIMIT, ended).await.unwrap_or_else(|_| panic!("{} is ended in time (reads: {reads})", attack.name));
}

/// Posts events until told to stop; returns how many were answered. Each answer comes in time, or the test ends.
async fn honest(site: &Site, stop: &AtomicBool) -> u32 {
    let mut served = 0;
    while !stop.load(Relaxed) {
        let answer = timeout(LIMIT / 4, site.exchange(&post(EVENT))).await.expect("an honest caller is served in time");
        assert_eq!(answer.status, 200, "{}", answer.body);
        served += 1;
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_floods_are_ended_while_an_honest_caller_is_served() {
    let site = Arc::new(Site::start(patient_for(Duration::from_millis(700))).await);
    for reads in [true, false] {
        let mut attackers = JoinSet::new();
        for attack in attacks() {
            let stream = connect(&site, b"h2").await;
            attackers.spawn(run(stream, attack, reads));
        }
        let stop = AtomicBool::new(false);
        let all_ended = async {
            attackers.join_all().await;
            stop.store(true, Relaxed);
        };
        let (served, ()) = tokio::join!(honest(&site, &stop), all_ended);
        assert!(served > 0);
        if reads {
            for reason in ["http2_abuse", "http2_malformed", "silent"] {
                let expected = attacks().iter().filter(|attack| attack.reason == reason).count() as u64;
                let metric = format!(r#"linxo_webhook_refused_total{{reason="{reason}"}}"#);
                assert_eq!(site.metric(&metric), expected, "{reason}");
            }
        }
    }
    wait_for(|| site.metric("linxo_webhook_connections") == 0).await;
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="internal"}"#), 0);
    let is_kept = |kept: &inbox::Refused| (kept.reason, kept.status) == ("http2_abuse", 0);
    wait_for(|| site.inbox.refused().iter().any(is_kept)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_slow_callers_hold_nobody_up_and_are_all_ended() {
    const EACH: usize = 60;
    let site = Arc::new(Site::start(patient_for(Duration::from_secs(2))).await);
    let mut slow = JoinSet::new();
    for _ in 0..EACH {
        // Handshakes that stop, heads and bodies that drip, requests again and again, HTTP/2 without a request.
        for (alpn, opening, drip) in [
            (None, &b"\x16\x03\x01\x02\x00\x01"[..], &b""[..]),
            (Some(&b"http/1.1"[..]), b"POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\n", b"x-a: b\r\n"),
            (Some(b"http/1.1"), b"POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n", b" "),
            (Some(b"http/1.1"), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
            (Some(b"h2"), PREFACE, b"\0\0\0\x04\0\0\0\0\0"),
        ] {
            let site = Arc::clone(&site);
            slow.spawn(async move {
                let Some(alpn) = alpn else {
                    let mut tcp = TcpStream::connect(site.address).await.unwrap();
                    tcp.write_all(opening).await.unwrap();
                    return drop(tcp.read_to_end(&mut Vec::new()).await);
                };
                let mut stream = connect(&site, alpn).await;
                let slowly = async {
                    stream.write_all(opening).await?;
                    for _ in 0..100 {
                        stream.write_all(drip).await?;
                        stream.flush().await?;
                        sleep(Duration::from_millis(100)).await;
                    }
                    std::io::Result::Ok(())
                };
                // It ends with an error when the server has had enough of it.
                drop(slowly.await);
            });
        }
    }
    let stop = AtomicBool::new(false);
    let all_ended = async {
        timeout(LIMIT, slow.join_all()).await.expect("every slow caller is ended");
        stop.store(true, Relaxed);
    };
    let (served, ()) = tokio::join!(honest(&site, &stop), all_ended);
    assert!(served > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_never_reads_its_answers_is_ended() {
    let site = Arc::new(Site::start(patient_for(Duration::from_millis(700))).await);
    let attack = Attack {
        name: "pipelined requests",
        reason: "",
        open: Vec::new(),
        repeat: |_| b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100),
    };
    run(connect(&site, b"http/1.1").await, attack, false).await;
    assert_eq!(site.exchange(&post(EVENT)).await.status, 200);
}
