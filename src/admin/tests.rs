//! The admin listener over real sockets.

use super::{
    Figures, State, bind,
    routes::{Hindrance, Seldom, WRONG_TOKEN_TIME},
};
use crate::observe::{
    metrics::{self, Exposition},
    readiness::Readiness,
};
use base::{clock, secret::Secret};
use inbox::{Stage, StageCounts, Stats, double::Double};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    double: Arc<Double>,
    inbox: inbox::Figures,
    readiness: Readiness,
    /// Begins the drain of the process.
    drain: CancellationToken,
    /// Ends the listener.
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(double: Double, token: Option<&str>) -> Running {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let bound = bind("127.0.0.1:0".parse().unwrap(), token).await.unwrap();
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (address, double, readiness) = (bound.address(), Arc::new(double), Readiness::new(drain.clone()));
    let mut registry = metrics::registry();
    let inbox = inbox::Figures::new(&mut registry, inbox::Limits { waiting: 1000, free_bytes: 1 << 20 });
    let state = State {
        intake: Arc::<Double>::clone(&double),
        upkeep: Arc::<Double>::clone(&double),
        inbox: inbox.clone(),
        figures: Figures::new(&mut registry),
        exposition: Arc::new(Exposition::new(registry)),
        readiness: readiness.clone(),
        hindrance: Hindrance::default(),
    };
    let ended = tokio::spawn(bound.serve(state, stop.clone()));
    Running { address, double, inbox, readiness, drain, stop, ended }
}

impl Running {
    /// Sends a request's head and reads until the listener closes.
    async fn ask(&self, line: &str, more: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn readiness_follows_the_phase_and_the_inbox() {
    let running = start(Double::default(), None).await;
    assert!(running.ask("GET /livez", "").await.ends_with(r#"{"status":"alive"}"#));
    insta::assert_snapshot!(running.ask("GET /readyz", "").await, @r#"
    HTTP/1.1 503 Service Unavailable
    content-type: application/json
    cache-control: no-store
    content-length: 45
    connection: close

    {"status":"not_ready","reasons":["starting"]}
    "#);
    running.readiness.set_ready();
    insta::assert_snapshot!(running.ask("GET /readyz", "").await, @r#"
    HTTP/1.1 200 OK
    content-type: application/json
    cache-control: no-store
    content-length: 18
    connection: close

    {"status":"ready"}
    "#);
    running.double.set_full(true);
    running.drain.cancel();
    let answer = running.ask("GET /readyz", "").await;
    assert!(
        answer.ends_with(r#"{"status":"not_ready","reasons":["draining","the inbox's disk is full"]}"#),
        "{answer}"
    );
    assert!(running.ask("GET /livez", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn other_paths_and_methods_are_problems() {
    let running = start(Double::default(), Some("t")).await;
    insta::assert_snapshot!(running.ask("GET /readyz/", "").await, @r#"
    HTTP/1.1 404 Not Found
    content-type: application/problem+json
    cache-control: no-store
    content-length: 118
    connection: close

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing under this path","code":"not_found"}
    "#);
    insta::assert_snapshot!(running.ask("POST /metrics", "Content-Length: 0\r\n").await, @r#"
    HTTP/1.1 405 Method Not Allowed
    content-type: application/problem+json
    cache-control: no-store
    allow: GET,HEAD
    content-length: 126
    connection: close

    {"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"this path is only read","code":"method_not_allowed"}
    "#);
}

#[tokio::test]
async fn figures_need_the_token_and_show_the_inbox() {
    let double = Double::with_stats(Some(Stats {
        stages: vec![(Stage::deliver("app"), StageCounts { waiting: 3, leased: 2, parked: 1 })],
        oldest_by_stage: vec![(Stage::deliver("app"), clock::now().before(Duration::from_secs(90)))],
        free_bytes: Some(1 << 30),
        size_bytes: 4096,
        log_bytes: 512,
        ..Stats::default()
    }));
    let running = start(double, Some("correct")).await;
    for wrong in
        ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic correct\r\n", "Authorization: Bearer\r\n"]
    {
        let answer = running.ask("GET /metrics", wrong).await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("www-authenticate: Bearer"), "{answer}");
        assert!(!answer.contains("linxo_webhook"));
    }
    let answer = running.ask("GET /metrics", "Authorization: bearer correct\r\n").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for figure in [
        r#"linxo_webhook_inbox_entries{stage="app",state="waiting"} 3"#,
        r#"linxo_webhook_inbox_entries{stage="app",state="parked"} 1"#,
        r#"linxo_webhook_inbox_oldest_unfinished_seconds{stage="app"} 9"#,
        "linxo_webhook_inbox_size_bytes 4096",
        "linxo_webhook_inbox_log_bytes 512",
        "linxo_webhook_inbox_free_bytes 1073741824",
        "linxo_webhook_inbox_min_free_bytes 1048576",
        "linxo_webhook_inbox_max_waiting 1000",
    ] {
        assert!(answer.contains(figure), "{figure} in {answer}");
    }
    assert!(answer.contains("linxo_webhook_admin_unauthorized_total 4"), "{answer}");
    assert!(answer.ends_with("# EOF"));
}

#[tokio::test]
async fn a_wrong_token_is_answered_late_and_a_right_one_at_once_beside_it() {
    let running = start(Double::default(), Some("correct")).await;
    tokio::time::pause();
    let started = Instant::now();
    let wrong = async {
        running.ask("GET /metrics", "Authorization: Bearer wrong\r\n").await;
        started.elapsed()
    };
    let right = async {
        running.ask("GET /metrics", "Authorization: Bearer correct\r\n").await;
        started.elapsed()
    };
    let (wrong, right) = tokio::join!(wrong, right);
    assert!(right < WRONG_TOKEN_TIME && WRONG_TOKEN_TIME <= wrong, "{right:?} {wrong:?}");
}

#[test]
fn a_line_that_is_seldom_due() {
    let line = Seldom::default();
    assert!(line.is_due());
    assert!((0..1000).all(|_| !line.is_due()));
}

#[tokio::test]
async fn whoever_holds_sockets_keeps_nobody_from_being_answered() {
    let running = start(Double::default(), Some("token")).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        // Some say nothing, some begin, some ask and stay.
        let begun = [&b""[..], b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"];
        socket.write_all(begun[held.len() % 3]).await.unwrap();
        held.push(socket);
    }
    let limit = Duration::from_secs(2);
    for _ in 0..20 {
        let answer = tokio::time::timeout(limit, running.ask("GET /livez", "")).await.expect("at once");
        assert!(answer.starts_with("HTTP/1.1 200"));
    }
    // An answer ends its socket, although its caller would have kept it.
    let mut answer = String::new();
    held[299].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

/// (F8) A figure that is not known is absent: neither 0 nor what it was.
#[tokio::test]
async fn a_scrape_outlives_a_store_that_hangs_and_guesses_nothing() {
    let stats = Stats { stages: vec![(Stage::deliver("app"), StageCounts::default())], ..Stats::default() };
    let running = start(Double::with_stats(None), None).await;
    running.inbox.show(stats);
    tokio::time::pause();
    let answer = running.ask("GET /metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("# EOF"), "{answer}");
    assert!(
        !answer.contains("linxo_webhook_inbox_entries") && !answer.contains("linxo_webhook_inbox_oldest"),
        "{answer}"
    );
    assert!(answer.contains("linxo_webhook_inbox_max_waiting 1000"), "{answer}");
}

#[tokio::test]
async fn ends_with_idle_sockets_open() {
    let running = start(Double::default(), None).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    // Another one's answer, so that the idle one is known to be taken.
    running.ask("GET /livez", "").await;
    running.stop.cancel();
    running.ended.await.unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
