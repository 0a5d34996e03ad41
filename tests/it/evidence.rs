//! How answers of the API are judged: by what repeats over time or comes from several connections, never by a first word.

use crate::{
    support::{event_json, eventually, new_entry},
    support_api::{Service, assert_complete, connection, ids, truncated, until},
};
use double::{Endpoint, Fault, Rule, Script, Settings};
use inbox::{Filter, State};
use rusqlite::Connection;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

const OPEN: &str = "linxo_webhook_api_breaker_open{peer=\"linxo\"}";
const RETRIED: &str = "linxo_webhook_completions_total{outcome=\"retry\"}";

fn of(id: &str, fault: Fault) -> Rule {
    Rule { connection: Some(id.to_owned()), ..Rule::always(Endpoint::Accounts, fault) }
}

fn status(status: u16, retry_after: Option<&str>) -> Fault {
    Fault::Status { status, retry_after: retry_after.map(str::to_owned), html: false }
}

async fn with(accounts: usize, fault: Fault, lines: &str) -> Service {
    let script = Script::of([Rule::always(Endpoint::Accounts, fault)]);
    Service::start(Settings { connections: vec![connection("7", accounts)], script, ..Settings::default() }, lines)
        .await
}

/// (A2) An event that is ahead of the API waits until the API has caught up. That is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_ahead_of_the_api_waits_for_it() {
    let service = with(150, Fault::Late { unknown_ms: 700, ms: 2500 }, "settle_for = \"10m\"").await;
    service.accept(&truncated("7", 150)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!((service.figure(RETRIED), service.figure("linxo_webhook_account_mismatch_total")), (0, 0));
    assert!(service.figure("linxo_webhook_completions_total{outcome=\"paused\"}") >= 2);
    let entry = service.running().inbox.desk.list(&Filter::default(), 1).await.unwrap().remove(0);
    assert_eq!(entry.stages[0].attempts, 1, "a wait is no attempt");
}

/// (A2) What is still missing when the time is over is delivered short, and says so; when the same is missing again the
/// next time, nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_listed_is_waited_for_once() {
    let mut service = with(148, Fault::Delay { ms: 1 }, "settle_for = \"1s\"").await;
    let accepted = Instant::now();
    service.accept(&truncated("7", 150)).await;
    let delivery = service.delivered(1).await.remove(0);
    assert!(accepted.elapsed() >= Duration::from_secs(1), "{:?}", accepted.elapsed());
    assert_eq!((ids(&delivery).len(), &delivery["linxomismatch"]), (148, &true.into()));

    service.stop().await;
    service.configure(Some("settle_for = \"1d\""));
    service.run().await;
    service.simulator.forget_requests();
    service.accept(&event_json("again", "7", 150, true)).await;
    let delivery = service.delivered(2).await.remove(1);
    assert_eq!((ids(&delivery).len(), &delivery["linxomismatch"]), (148, &true.into()));
    assert_eq!(service.asked_page(1), 2, "two equal readings");

    // Another shortfall is another matter: it may be a list that is not ready yet.
    service.accept(&event_json("more", "7", 151, true)).await;
    until("it waits", async || {
        let entries = service.running().inbox.desk.list(&Filter::default(), 9).await.unwrap();
        let reason =
            entries.iter().filter(|entry| entry.state == State::Waiting).find_map(|e| e.stages[0].reason.clone());
        reason?.contains("lists 148 of 151 announced accounts so far").then_some(())
    })
    .await;
    service.simulator.change_accounts("7", 3, 0, 1);
    assert_complete(&service.simulator, &service.delivered(3).await[2]);
}

/// (A2) A connection that the API does not know may be new. It counts as gone when the time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_unknown_may_be_new() {
    let settings = Settings { connections: vec![], ..Settings::default() };
    let mut service = Service::start(settings, "settle_for = \"1d\"").await;
    service.accept(&truncated("7", 150)).await;
    until("some looks", async || (service.asked_page(1) >= 3).then_some(())).await;
    assert!(service.deliveries().is_empty() && service.parked_now().await.is_empty());
    service.simulator.put_connection(&connection("7", 150));
    assert_complete(&service.simulator, &service.delivered(1).await[0]);

    service.stop().await;
    service.configure(Some("settle_for = \"1s\""));
    service.run().await;
    let accepted = Instant::now();
    service.accept(&truncated("8", 150)).await;
    let delivery = service.delivered(2).await.remove(1);
    assert!(accepted.elapsed() >= Duration::from_secs(1));
    assert_eq!((&delivery["linxocompletion"], &delivery["linxomismatch"]), (&"gone".into(), &true.into()));
}

/// (A2) The time counts from acceptance: events that stand behind one another in a line do not wait one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn waits_of_one_line_do_not_add_up() {
    let service = with(140, Fault::Delay { ms: 1 }, "settle_for = \"3s\"").await;
    let accepted = Instant::now();
    for number in 0..8 {
        // Each lacks another number, so none is known from the one before.
        service.accept(&event_json(&format!("e{number}"), "7", 141 + number, true)).await;
    }
    for delivery in service.delivered(8).await {
        assert_eq!((ids(&delivery).len(), &delivery["linxomismatch"]), (140, &true.into()));
    }
    assert!(accepted.elapsed() < Duration::from_secs(20), "{:?}", accepted.elapsed());
}

/// (A2) A hint's count is never believed: neither waited for nor compared.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_a_hint_is_not_waited_for() {
    let service = with(3, Fault::Delay { ms: 1 }, "settle_for = \"1d\"").await;
    let entry = inbox::NewEntry { confirm: true, ..new_entry(&truncated("7", 1000)) };
    service.running().inbox.intake.accept(entry).await.unwrap();
    let delivery = service.delivered(1).await.remove(0);
    assert_eq!((ids(&delivery).len(), delivery.get("linxomismatch")), (3, None));
}

/// (A3) Forty connections fail, twenty hang, and five are good: each event of a good one is completed within two seconds of
/// being accepted, from the first on.
#[tokio::test(flavor = "multi_thread")]
async fn good_connections_are_served_beside_failing_and_hanging_ones() {
    let good: Vec<String> = (500..505).map(|id| id.to_string()).collect();
    let connections = (400..460).map(|id| id.to_string()).chain(good.clone());
    let rules = (400..460).map(|id| {
        let fault = if id < 440 { status(500, None) } else { Fault::StallHead { ms: 3_600_000 } };
        of(&id.to_string(), fault)
    });
    let settings = Settings {
        connections: connections.map(|id| connection(&id, 101)).collect(),
        script: Script::of(rules.collect::<Vec<_>>()),
        ..Settings::default()
    };
    let service = Service::start(settings, "").await;
    for id in 400..460 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    let mut served = HashSet::new();
    for round in 0..6 {
        let mut accepted = Vec::new();
        for id in &good {
            let event = format!("{id}-{round}");
            accepted.push((event.clone(), Instant::now()));
            service.accept(&event_json(&event, id, 101, true)).await;
        }
        eventually("the good ones", async || {
            for delivery in service.deliveries() {
                let id = delivery["id"].as_str().unwrap().to_owned();
                if let Some((_, at)) = accepted.iter().find(|(event, _)| *event == id)
                    && served.insert(id.clone())
                {
                    assert!(at.elapsed() < Duration::from_secs(2), "{id} took {:?}", at.elapsed());
                }
            }
            accepted.iter().all(|(event, _)| served.contains(event)).then_some(())
        })
        .await;
        // Until those that fail are tried again.
        let tried = service.asked(Endpoint::Accounts);
        until("further tries", async || (service.asked(Endpoint::Accounts) >= tried + 10).then_some(())).await;
    }
    assert_eq!(service.figure(OPEN), 0);
}

/// (A4) What a connection was refused for over an hour is known of it: its next event parks after five tries, and others
/// are not concerned.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_believed_is_believed_of_the_connection() {
    let mut service = with(150, status(400, None), "").await;
    service.accept(&truncated("7", 150)).await;
    let tried = service.tried(3).await;
    assert_ne!(tried.state, State::Parked, "{tried:?}");
    service.stop().await;
    let sql = "UPDATE stage SET doubts_since = doubts_since - 3600000, due = 0 WHERE kind = 0";
    assert_eq!(Connection::open(service.path("inbox.db")).unwrap().execute(sql, []).unwrap(), 1);
    service.run().await;
    let reason = service.parked(1).await.remove(0);
    assert!(reason.contains("answered 400 (INTERNAL_ERROR); given up after 5 attempts in 60 minutes"), "{reason}");
    let event = event_json("next", "7", 150, true);
    service.accept(&event).await;
    let parked = service.parked(2).await;
    assert!(parked.iter().all(|reason| reason.contains("after 5 attempts")), "{parked:?}");
}

/// (A5) With everything announced held, whatever a server says behind the end is the end; a failure there after a few tries.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_held_and_the_page_behind_it_is_an_error() {
    for number in [200, 204, 400, 401, 403, 404, 405, 410, 416, 422, 500, 503] {
        let service = with(100, Fault::BehindTheEnd { status: number }, "").await;
        service.accept(&truncated("7", 100)).await;
        assert_complete(&service.simulator, &service.delivered(1).await[0]);
        let entry = service.running().inbox.desk.list(&Filter::default(), 1).await.unwrap().remove(0);
        assert_eq!(entry.stages[0].attempts, if number >= 500 { 3 } else { 1 }, "{number}");
        assert_eq!(service.asked_page(1), 1, "{number}");
    }
    // Less than announced is held: then it is an error like any other.
    let service = with(100, Fault::BehindTheEnd { status: 400 }, "").await;
    service.accept(&truncated("7", 150)).await;
    service.tried(2).await;
    assert!(service.deliveries().is_empty());
}

/// (A6) `Retry-After` holds the connection that it was told to. When a second one is told so, the API rests.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_that_is_throttled_holds_up_no_other() {
    let connections: Vec<_> = (100..110).map(|id| connection(&id.to_string(), 101)).collect();
    let script = Script::of([of("100", status(429, Some("85092")))]);
    let service = Service::start(Settings { connections, script, ..Settings::default() }, "").await;
    service.accept(&truncated("100", 101)).await;
    until("the refusal", async || (service.asked(Endpoint::Accounts) == 1).then_some(())).await;
    for id in 101..109 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    for delivery in service.delivered(8).await {
        assert_complete(&service.simulator, &delivery);
    }
    let of_first = |request: &&double::Request| request.connection.as_deref() == Some("100");
    assert_eq!(service.simulator.requests().iter().filter(of_first).count(), 1);
    assert_eq!(service.figure(OPEN), 0);

    let throttled = [of("100", status(429, Some("3600"))), of("109", status(429, Some("2")))];
    let before = Instant::now();
    service.simulator.script(Script::of([of("109", status(429, Some("2"))), of("108", status(429, Some("3600")))]));
    service.accept(&event_json("b", "108", 101, true)).await;
    until("the second refusal", async || (service.asked(Endpoint::Accounts) >= 18).then_some(())).await;
    service.accept(&truncated("109", 101)).await;
    until("the rest", async || (service.figure(OPEN) == 1).then_some(())).await;
    service.simulator.script(Script::of(throttled));
    service.accept(&event_json("c", "101", 101, true)).await;
    service.delivered(9).await;
    assert!(before.elapsed() >= Duration::from_secs(2), "it rests for the shorter of the two times");
}

/// (A8) An item that is no account costs nobody its accounts, and nothing waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_no_account_stops_nothing() {
    for item in ["null", r#"{"name":"x"}"#, "7", r#"{"id":""}"#] {
        let bad = Fault::BadItem { at: 1, item: item.to_owned() };
        let service = with(150, bad, "settle_for = \"1d\"").await;
        service.accept(&truncated("7", 150)).await;
        service.accept(&event_json("whole", "7", 2, false)).await;
        let deliveries = service.delivered(2).await;
        // One on each of the two pages.
        assert_eq!((ids(&deliveries[0]).len(), &deliveries[0]["linxoaccounts"]), (148, &148.into()), "{item}");
        assert_eq!(deliveries[0]["linxomismatch"], true, "{item}");
        assert_eq!(deliveries[1]["id"], "whole");
        assert_eq!(service.figure("linxo_webhook_account_mismatch_total"), 1);
        assert_eq!(service.asked(Endpoint::Accounts), 2, "everything came, so it is not read again");
    }
}
