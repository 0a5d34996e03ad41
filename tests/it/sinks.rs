//! Sinks that refuse, hang, die and come back; and what operators do with them.

use crate::support::{Endpoint, Service, Site, event_json, eventually, settled};
use inbox::State;
use rusqlite::Connection;
use serde_json::Value;
use std::{os::unix::fs::PermissionsExt, process::Output, time::Duration};
use tokio::time::Instant;

/// Which connection a delivery is about.
fn connection_of(received: &crate::support::Received) -> String {
    received.header("ce-subject").to_owned()
}

/// A site with one HTTP sink.
fn site(url: &str) -> Site {
    let mut site = Site::new();
    site.http_sink("app", url);
    site
}

async fn waiting(service: &Service, entries: usize) {
    eventually("every entry was refused once", async || {
        let entries_found = crate::support::entries(&service.running.inbox).await;
        let tried = entries_found.iter().filter(|entry| entry.state == State::Waiting && entry.stages[0].attempts > 0);
        (tried.count() == entries).then_some(())
    })
    .await;
}

/// Makes every run of refusals long enough to be believed, and the next try due.
fn age_doubts(site: &Site) {
    let config = site.config();
    let path = config.inbox.file().unwrap();
    let file = Connection::open(path).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    file.execute("UPDATE stage SET doubts = 5, doubts_since = doubts_since - 3600000, due = 0 WHERE doubts > 0", [])
        .unwrap();
}

/// (E1) A sink answers 404 for hours: what it refused is parked in the end, and goes back in line by itself as soon as the
/// sink takes deliveries again. What comes late says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_outage_parked_is_delivered_when_it_is_over() {
    let endpoint = Endpoint::start(|_| Some(404)).await;
    let site = site(&endpoint.url());
    let service = site.start().await;
    for (id, connection) in [("a1", "a"), ("b1", "b"), ("c1", "c")] {
        service.door.accept(event_json(id, connection, 1, false)).await;
    }
    waiting(&service, 3).await;
    service.stop().await;
    age_doubts(&site);
    let service = site.start().await;
    let parked = settled(&service.running.inbox).await;
    for entry in &parked {
        let stage = &entry.stages[0];
        assert_eq!(stage.cause.as_ref().map(inbox::Cause::as_str), Some("outage"), "{stage:?}");
        assert!(stage.reason.as_ref().unwrap().contains("goes back in line by itself"), "{stage:?}");
    }

    endpoint.judge(|_| Some(200));
    service.door.accept(event_json("a2", "a", 1, false)).await;
    eventually("all four were delivered", async || (endpoint.taken().len() == 4).then_some(())).await;
    settled(&service.running.inbox).await;
    let stale: Vec<(String, bool)> = endpoint
        .taken()
        .iter()
        .map(|taken| (taken.header("webhook-id").to_owned(), taken.header("ce-linxostale") == "true"))
        .collect();
    assert_eq!(stale[0], ("a2".to_owned(), false));
    assert!(stale.contains(&("a1".to_owned(), true)), "{stale:?}");
    assert!(stale.contains(&("b1".to_owned(), false)), "{stale:?}");
    assert_eq!(service.metric("linxo_webhook_deliveries_resumed_total{sink=\"app\"}"), 3);
}

/// (E1) What a sink refuses while it takes others stays parked.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_while_others_are_taken_stays_parked() {
    let endpoint = Endpoint::start(|received| Some(if connection_of(received) == "bad" { 422 } else { 200 })).await;
    let site = site(&endpoint.url());
    let service = site.start().await;
    let accept = async |id: &str| service.door.accept(event_json(id, "good", 1, false)).await;
    accept("y").await;
    eventually("the good one was taken", async || (endpoint.taken().len() == 1).then_some(())).await;
    service.door.accept(event_json("x", "bad", 1, false)).await;
    waiting(&service, 1).await;
    age_doubts(&site);
    let entries = settled(&service.running.inbox).await;
    assert_eq!(entries[1].stages[0].cause.as_ref().map(inbox::Cause::as_str), Some("refused"));
    endpoint.judge(|_| Some(200));
    accept("z").await;
    eventually("the next one was taken", async || (endpoint.taken().len() == 2).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(settled(&service.running.inbox).await[1].state, State::Parked);
}

/// (E2) A sink that refuses connections is tried now and then, not by every entry again and again, and says so in a few lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sink_is_tried_now_and_then() {
    let endpoint = Endpoint::start(|_| Some(200)).await;
    let url = endpoint.url();
    drop(endpoint);
    let site = site(&url);
    let process = site.spawn().await;
    for n in 0..200 {
        process.door.accept(event_json(&format!("e{n}"), &format!("c{n}"), 1, false)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let metrics = process.admin("/metrics").await.body;
    let figure = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    };
    let tries = figure("linxo_webhook_deliveries_total{sink=\"app\",outcome=\"retry\"}");
    assert!((5..1000).contains(&tries), "{tries} tries");
    assert_eq!(figure("linxo_webhook_sink_breaker_open{sink=\"app\"}"), 1);
    let log = process.output();
    let lines = log.lines().filter(|line| line.contains("delivery failed; it is tried again")).count();
    assert!((1..=3).contains(&lines), "{lines} lines");
    process.kill().await;
}

/// (E2) Deliveries that hang hold no more than their share: the others are served within two seconds.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hang_at_a_sink_do_not_hold_up_the_others() {
    let endpoint = Endpoint::start(|received| (!connection_of(received).starts_with("hangs")).then_some(200)).await;
    let mut site = site(&endpoint.url());
    site.set("worker.concurrency", 16);
    let service = site.start().await;
    for n in 0..20 {
        service.door.accept(event_json(&format!("h{n}"), &format!("hangs{n}"), 1, false)).await;
    }
    for n in 0..20 {
        let accepted = Instant::now();
        service.door.accept(event_json(&format!("g{n}"), &format!("good{}", n % 5), 1, false)).await;
        eventually("a good one was taken", async || (endpoint.taken().len() == n + 1).then_some(())).await;
        let took = accepted.elapsed();
        assert!(took < Duration::from_secs(5), "the {n}th took {took:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.running.drain();
}

fn out(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn state(site: &Site) -> Value {
    let (code, listed, problem) = out(&site.run(&["sink", "ls", "--json"]).await);
    assert_eq!(code, Some(0), "{problem}");
    serde_json::from_str(listed.trim()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_gets_nothing_until_it_is_resumed_also_after_a_restart() {
    let endpoint = Endpoint::start(|_| Some(200)).await;
    let site = site(&endpoint.url());
    let process = site.spawn().await;
    let socket = site.path("data/inbox.db-control");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(state(&site).await["state"], "well");
    let (code, _, said) = out(&site.run(&["sink", "pause", "app"]).await);
    assert_eq!((code, said.trim()), (Some(0), "the sink app is paused"));
    process.door.accept(event_json("e1", "a", 1, false)).await;
    let paused = eventually("it waits", async || {
        let state = state(&site).await;
        (state["waiting"] == 1).then_some(state)
    })
    .await;
    assert_eq!(paused["state"], "paused");
    process.signal(rustix::process::Signal::TERM);
    assert!(process.ended().await.0.success());
    assert!(!socket.exists());

    // Without a service.
    let stopped = state(&site).await;
    assert_eq!(
        (&stopped["state"], &stopped["since"], &stopped["waiting"]),
        (&"paused".into(), &paused["since"], &1.into())
    );
    let process = site.spawn().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(endpoint.taken().is_empty());
    let table = out(&site.run(&["sink", "ls"]).await).1;
    assert!(table.starts_with("NAME") && table.contains("paused"), "{table}");
    let (code, _, said) = out(&site.run(&["sink", "resume", "app"]).await);
    assert_eq!((code, said.trim()), (Some(0), "the sink app is not paused any more"));
    eventually("it was delivered", async || (endpoint.taken().len() == 1).then_some(())).await;
    process.kill().await;
    let (code, _, said) = out(&site.run(&["sink", "pause", "app"]).await);
    assert!(
        code == Some(0) && said.contains("from the next start"),
        "a socket that was left behind is no service: {said}"
    );
    assert_eq!(state(&site).await["state"], "paused");
    let (code, _, said) = out(&site.run(&["sink", "pause", "ap"]).await);
    assert!(code == Some(64) && said.contains("configured are app"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_delivery_is_signed_and_told_from_real_ones() {
    let endpoint = Endpoint::start(|_| Some(200)).await;
    let site = site(&endpoint.url());
    for with_service in [false, true] {
        let process = if with_service { Some(site.spawn().await) } else { None };
        endpoint.judge(|_| Some(200));
        let (code, _, said) = out(&site.run(&["sink", "test", "app"]).await);
        assert!(code == Some(0) && said.contains("took the test delivery test-"), "{said}");
        let seen = endpoint.attempts().pop().unwrap();
        assert_eq!(seen.header("ce-type"), "com.linxo.connections.test");
        assert!(seen.header("webhook-id").starts_with("test-"));
        let webhook = standardwebhooks::Webhook::new(crate::support::secrets::SIGNING).unwrap();
        webhook.verify(&seen.body, &seen.headers).unwrap();
        endpoint.judge(|_| Some(500));
        let (code, _, said) = out(&site.run(&["sink", "test", "app"]).await);
        assert!(code == Some(75) && said.contains("the endpoint answered 500 Internal Server Error"), "{said}");
        if let Some(process) = process {
            process.kill().await;
        }
    }
}
