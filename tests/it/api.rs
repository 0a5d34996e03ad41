//! Completion through the true service against a vendor that does everything that can be done to it.

use crate::{
    support::event_json,
    support_api::{Service, assert_complete, connection, ids, truncated, until},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use futures_util::future::join_all;
use linxo_webhook::{
    config::{ApiVersion, TokenBody},
    inbox::{Access, Inbox, Sqlite},
    pki::{self, Authority},
    secret::Secret,
    simulator::{Endpoint, Fault, Rule, Script, Settings, Simulator, Target, User},
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::sleep;

const ACCOUNTS: usize = 102;
const OPEN: &str = "linxo_webhook_api_breaker_open{peer=\"linxo\"}";

/// What becomes of one truncated event.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// Delivered with every account.
    Complete,
    /// Delivered with this many, and said so.
    Flagged(usize),
    /// Delivered without accounts, and said so.
    Gone,
    /// Parked, with this in the reason.
    Parked(&'static str),
}

struct Case {
    name: &'static str,
    rules: Vec<Rule>,
    ends: Ends,
    /// Requests for page 1 and page 2; `None` where it does not matter.
    asked: Option<(usize, usize)>,
}

fn status(status: u16, retry_after: Option<&str>, html: bool) -> Fault {
    Fault::Status { status, retry_after: retry_after.map(str::to_owned), html }
}

/// A fault on the first request for page 2: page 1 is held by then and must not be asked for again.
fn once(name: &'static str, fault: Fault) -> Case {
    let rule = Rule { page: Some(2), ..Rule::first(1, Endpoint::Accounts, fault) };
    Case { name, rules: vec![rule], ends: Ends::Complete, asked: Some((1, 2)) }
}

fn always(name: &'static str, fault: Fault, ends: Ends) -> Case {
    Case { name, rules: vec![Rule::always(Endpoint::Accounts, fault)], ends, asked: None }
}

fn cases() -> Vec<Case> {
    let token = |name, times, fault| Case {
        name,
        rules: vec![Rule::first(times, Endpoint::Token, fault)],
        ends: Ends::Complete,
        asked: Some((1, 1)),
    };
    let redirect = |to| Fault::Redirect { to, location: None };
    vec![
        once("500", status(500, None, false)),
        once("502 as a page", status(502, None, true)),
        once("503 with seconds", status(503, Some("1"), false)),
        once("503 with a date", status(503, Some("date:1"), true)),
        once("429 with seconds", status(429, Some("1"), false)),
        once("429 with nonsense", status(429, Some("soon"), false)),
        once("429 alone", status(429, None, false)),
        once("408", status(408, None, false)),
        once("401", Fault::Unauthorized),
        once("tokens expire", Fault::ExpireTokens),
        once("a page with 200", Fault::Html),
        once("204", Fault::NoContent),
        once("not JSON", Fault::Body { body: "\u{feff}[{\"id\":1e400}".to_owned() }),
        once("another JSON", Fault::Body { body: "{\"accounts\":7}".to_owned() }),
        once("half a JSON", Fault::Truncate),
        once("cut in the body", Fault::Cut { after: None }),
        once("cut before the body", Fault::Cut { after: Some(0) }),
        once("reset", Fault::Reset),
        once("no head in time", Fault::StallHead { ms: 60_000 }),
        once("no end in time", Fault::StallBody { ms: 60_000 }),
        once("a drip without end", Fault::Drip { bytes: 1, every_ms: 100 }),
        once("a gzip bomb", Fault::GzipBomb { bytes: 1 << 30 }),
        once("redirect to the same origin", redirect(Target::Same)),
        once("redirect to another origin", redirect(Target::Other)),
        once("redirect to itself", redirect(Target::Loop)),
        Case {
            // The second is the renewed token's.
            rules: vec![Rule { page: Some(2), ..Rule::first(2, Endpoint::Accounts, Fault::Unauthorized) }],
            asked: Some((1, 3)),
            ..once("401 twice", Fault::Unauthorized)
        },
        Case {
            // The second look is at page 1.
            rules: vec![Rule::first(1, Endpoint::Accounts, Fault::UnknownConnection)],
            asked: None,
            ..once("404 once", Fault::UnknownConnection)
        },
        token("the token endpoint fails", 2, status(500, None, true)),
        token("the token endpoint throttles", 1, status(429, Some("1"), false)),
        token("the token endpoint is slow", 1, Fault::StallHead { ms: 60_000 }),
        token("the token endpoint writes nonsense", 1, Fault::Html),
        token("the token endpoint redirects", 1, redirect(Target::Other)),
        always("integer ids", Fault::IntegerIds, Ends::Complete),
        always("an unknown filter", Fault::IgnoreFilter, Ends::Complete),
        always("everything on one page", Fault::IgnoreLimit { size: None }, Ends::Complete),
        always("small pages", Fault::IgnoreLimit { size: Some(7) }, Ends::Complete),
        always("another content type", Fault::WrongType { content_type: "text/plain".to_owned() }, Ends::Complete),
        always("a slow API", Fault::Delay { ms: 100 }, Ends::Complete),
        always("the same page for ever", Fault::RepeatPage, Ends::Flagged(100)),
        always("nothing at all", Fault::Body { body: "[]".to_owned() }, Ends::Flagged(0)),
        always("404", Fault::UnknownConnection, Ends::Gone),
        always("404 of somebody else", status(404, None, true), Ends::Parked("check linxo.api")),
        always("400", status(400, None, false), Ends::Parked("answered 400 (INTERNAL_ERROR)")),
        always("403", status(403, None, false), Ends::Parked("answered 403")),
        always("terms", Fault::TermsRequired, Ends::Parked("(ACCEPT_TERMS_AND_CONDITIONS_REQUIRED)")),
        always("endless", Fault::Endless, Ends::Parked("larger than 16 MiB")),
        always("huge", Fault::Huge { bytes: 1 << 30 }, Ends::Parked("larger than 16 MiB")),
        Case {
            rules: vec![Rule::always(Endpoint::Token, status(404, None, false))],
            ..always(
                "the token endpoint knows nobody",
                Fault::Reset,
                Ends::Parked("no token: the Linxo API answered 404"),
            )
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_one_outcome() {
    for batch in cases().chunks_mut(12) {
        let batch: Vec<Case> = batch.iter_mut().map(std::mem::take).collect();
        join_all(batch.into_iter().map(play)).await;
    }
}

impl Default for Case {
    fn default() -> Self {
        Self { name: "", rules: Vec::new(), ends: Ends::Complete, asked: None }
    }
}

async fn play(case: Case) {
    let name = case.name;
    let mut second = connection("8", 30);
    "u7".clone_into(&mut second.user);
    let settings = Settings {
        connections: vec![connection("7", ACCOUNTS), second],
        script: Script::of(case.rules),
        ..Settings::default()
    };
    // Long enough for a machine that does a dozen of these at once.
    let service = Service::start(settings, "timeout = \"3s\"").await;
    service.accept(&truncated("7", ACCOUNTS)).await;
    match case.ends {
        Ends::Parked(reason) => {
            let parked = service.parked(1).await;
            assert!(parked[0].contains(reason), "{name}: {parked:?}");
            assert!(service.deliveries().is_empty(), "{name}");
        }
        Ends::Complete => assert_complete(&service.simulator, &service.delivered(1).await[0]),
        Ends::Flagged(count) => {
            let delivery = &service.delivered(1).await[0];
            assert_eq!((ids(delivery).len(), &delivery["linxomismatch"]), (count, &true.into()), "{name}");
            assert_eq!(delivery["linxocompletion"], "api", "{name}");
        }
        Ends::Gone => {
            let delivery = &service.delivered(1).await[0];
            assert_eq!((ids(delivery).len(), &delivery["linxomismatch"]), (0, &true.into()), "{name}");
            assert_eq!(
                (&delivery["linxocompletion"], &delivery["linxoaccounts"]),
                (&"gone".into(), &0.into()),
                "{name}"
            );
        }
    }
    if let Some(asked) = case.asked {
        assert_eq!((service.asked_page(1), service.asked_page(2)), asked, "{name}: requests for pages 1 and 2");
    }
    let elsewhere = service.simulator.requests().iter().filter(|request| request.query.contains("hop=")).count();
    assert_eq!(elsewhere, 0, "{name}: a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_wire_versions_and_every_way_of_asking_for_a_token() {
    let bodies = [("json", TokenBody::Json), ("form", TokenBody::Form), ("basic", TokenBody::Basic)];
    for version in [ApiVersion::V2_1, ApiVersion::V3] {
        for (word, body) in bodies {
            for mode in ["client", "password"] {
                let settings = Settings {
                    version,
                    token_body: Some(body),
                    expires_in_text: true,
                    // What has a meaning in a form.
                    client_secret: Secret::new("a+b%2F&c=d:e".to_owned()),
                    connections: vec![connection("7", ACCOUNTS)],
                    users: vec![user("u7", "pass word+%&")],
                    ..Settings::default()
                };
                let mut service = Service::set(settings, "").await;
                let table = service.put("users.csv", "user_id,username,password\nu7,u7@example.com,pass word+%&\n");
                let named = if version == ApiVersion::V3 { "v3" } else { "v2.1" };
                let table = if mode == "password" { format!("table = \"{}\"", table.display()) } else { String::new() };
                service.configure(Some(&format!(
                    "version = \"{named}\"\ntoken_body = \"{word}\"\nprovider = \"linxoConnect\"\n[linxo.users]\nmode = \"{mode}\"\n{table}"
                )));
                service.run_with_secret("a+b%2F&c=d:e").await;
                service.accept(&truncated("7", ACCOUNTS)).await;
                assert_complete(&service.simulator, &service.delivered(1).await[0]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_is_not_trusted_and_work_waits_for_the_right_one() {
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let settings = |authority: &Authority| Settings {
        identity: Some(authority.server(&["localhost"]).unwrap()),
        connections: vec![connection("7", ACCOUNTS)],
        ..Settings::default()
    };
    let mut service = Service::set(settings(&theirs), "").await;
    let roots = service.put("roots.pem", ours.certificate_pem());
    service.configure(Some(&format!("authorities = [\"{}\"]", roots.display())));
    service.run().await;
    service.accept(&truncated("7", ACCOUNTS)).await;
    until("a refused handshake", async || {
        (service.figure("linxo_webhook_token_requests_total{outcome=\"network\"}") > 0).then_some(())
    })
    .await;
    assert!(service.simulator.requests().is_empty());
    let address = service.simulator.address();
    let right = Settings { address, ..settings(&ours) };
    let wrong = std::mem::replace(&mut service.simulator, Simulator::start(Settings::default()).await.unwrap());
    wrong.stop().await;
    service.simulator = Simulator::start(right).await.unwrap();
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_api_is_left_alone_and_what_needs_it_not_goes_on() {
    let connections: Vec<_> = (100..140).map(|id| connection(&id.to_string(), 150)).collect();
    let script = Script::of([Rule::always(Endpoint::Accounts, status(503, None, true))]);
    let service = Service::start(Settings { connections, script, ..Settings::default() }, "").await;
    for id in 100..140 {
        service.accept(&truncated(&id.to_string(), 150)).await;
    }
    until("the breaker", async || (service.figure(OPEN) == 1).then_some(())).await;
    let asked = service.asked(Endpoint::Accounts);
    service.accept(&event_json("whole", "9", 2, false)).await;
    assert_eq!(service.delivered(1).await[0]["id"], "whole");
    // Two or three tries, one request each; requests that were under way when it opened come on top.
    sleep(Duration::from_secs(3)).await;
    let tries = service.asked(Endpoint::Accounts) - asked;
    assert!((1..=20).contains(&tries), "{asked} requests, then {tries}");
    service.simulator.script(Script::default());
    let deliveries = service.delivered(41).await;
    for delivery in deliveries.iter().filter(|delivery| delivery["id"] != "whole") {
        assert_complete(&service.simulator, delivery);
    }
    assert_eq!(service.figure(OPEN), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_single_users_leave_the_api_open_to_others() {
    let mut connections: Vec<_> = (100..120).map(|id| connection(&id.to_string(), 150)).collect();
    connections.push(connection("7", ACCOUNTS));
    let refuse = |id: i32| Rule {
        connection: Some(id.to_string()),
        ..Rule::always(Endpoint::Accounts, status(403, None, false))
    };
    let script = Script::of((100..120).map(refuse).collect::<Vec<_>>());
    let service = Service::start(Settings { connections, script, ..Settings::default() }, "").await;
    for id in 100..120 {
        service.accept(&truncated(&id.to_string(), 150)).await;
    }
    service.parked(20).await;
    service.accept(&truncated("7", ACCOUNTS)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!(service.figure("linxo_webhook_completions_total{outcome=\"paused\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_completions_ask_for_one_token() {
    let connections: Vec<_> = (100..200).map(|id| connection(&id.to_string(), 101)).collect();
    let settings = Settings { connections, latency: Duration::from_millis(20), ..Settings::default() };
    let service = Service::start(settings, "").await;
    for id in 100..200 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    for delivery in service.delivered(100).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!(service.asked(Endpoint::Token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_when_they_end_early_or_soon() {
    for fault in [
        Fault::ExpiresIn { value: Some(1.into()) },
        Fault::ExpiresIn { value: Some(0.into()) },
        Fault::ExpiresIn { value: Some((-5).into()) },
        Fault::ExpiresIn { value: Some("x".into()) },
        Fault::ExpiresIn { value: None },
    ] {
        let settings = Settings {
            connections: vec![connection("7", 1050)],
            page_cap: 100,
            latency: Duration::from_millis(150),
            script: Script::of([
                Rule::always(Endpoint::Token, fault),
                Rule { page: Some(5), ..Rule::first(1, Endpoint::Accounts, Fault::ExpireTokens) },
            ]),
            ..Settings::default()
        };
        let service = Service::start(settings, "page_concurrency = 2").await;
        service.accept(&truncated("7", 1050)).await;
        assert_complete(&service.simulator, &service.delivered(1).await[0]);
        let refused = service.simulator.requests().iter().filter(|request| request.status == Some(401)).count();
        assert!((1..=2).contains(&refused), "{refused}");
    }
}

fn user(id: &str, password: &str) -> User {
    User { id: id.to_owned(), username: format!("{id}@example.com"), password: Secret::new(password.to_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_comes_into_the_table_gets_the_parked_events() {
    let settings = Settings {
        connections: vec![connection("1", 101), connection("2", 101), connection("3", 101)],
        users: vec![user("u1", "one"), user("u2", "two"), user("u3", "three")],
        ..Settings::default()
    };
    let mut service = Service::set(settings, "").await;
    let table = |lines: &str| format!("user_id,username,password\n{lines}");
    let path = service.put("users.csv", &table("u1,u1@example.com,one\nu2,u2@example.com,wrong\n"));
    service.configure(Some(&format!("[linxo.users]\nmode = \"password\"\ntable = \"{}\"", path.display())));
    service.run().await;
    for id in ["1", "2", "3"] {
        service.accept(&truncated(id, 101)).await;
    }
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    let reasons = service.parked(2).await;
    assert!(reasons.iter().any(|reason| reason.contains("not in the table")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("(invalid_grant)")), "{reasons:?}");
    // A table that cannot be used changes nothing.
    service.put("users.csv", "nonsense\n");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(service.parked_now().await.len(), 2);
    service.put("users.csv", &table("u1,u1@example.com,one\nu2,u2@example.com,two\n"));
    assert_eq!(service.delivered(2).await[1]["subject"], "2");
    assert_eq!(service.parked_now().await.len(), 1);
    service.put("users.csv", &table("u2,u2@example.com,two\nu3,u3@example.com,three\n"));
    let deliveries = service.delivered(3).await;
    assert_complete(&service.simulator, &deliveries[2]);
    // One request a user, and a refused one for the wrong password.
    assert_eq!(service.asked(Endpoint::Token), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_event_of_a_user_that_succeeds_brings_the_refused_ones_along() {
    let mut other = connection("8", 101);
    "u7".clone_into(&mut other.user);
    let settings = Settings {
        connections: vec![connection("7", 101), other],
        script: Script::of([Rule::always(Endpoint::Accounts, Fault::TermsRequired)]),
        ..Settings::default()
    };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 101)).await;
    service.parked(1).await;
    service.simulator.script(Script::default());
    service.accept(&event_json("e8", "8", 101, true).replace("\"u8\"", "\"u7\"")).await;
    let subjects: BTreeSet<String> =
        service.delivered(2).await.iter().map(|delivery| delivery["subject"].to_string()).collect();
    assert_eq!(subjects.len(), 2);
    assert!(service.parked_now().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_other_credentials_puts_parked_events_back_in_line() {
    let settings = Settings { connections: vec![connection("7", 101), connection("8", 101)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    service.configure(None);
    service.run().await;
    service.accept(&truncated("7", 101)).await;
    assert!(service.parked(1).await[0].contains("there is no [linxo] section"));
    service.stop().await;
    service.configure(Some(""));
    service.run_with_secret("wrong").await;
    service.accept(&truncated("8", 101)).await;
    let reasons = service.parked(2).await;
    until("both refused", async || {
        let parked = service.parked_now().await;
        parked
            .iter()
            .all(|entry| entry.stages[0].reason.as_deref().is_some_and(|reason| reason.contains("(invalid_client)")))
            .then_some(())
    })
    .await;
    assert_eq!(reasons.len(), 2);
    // The same again changes nothing.
    service.stop().await;
    service.run_with_secret("wrong").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(service.parked_now().await.len(), 2);
    service.stop().await;
    service.run().await;
    for delivery in service.delivered(2).await {
        assert_complete(&service.simulator, &delivery);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_secret_is_taken_into_use_and_puts_parked_events_back_in_line() {
    let settings = Settings { connections: vec![connection("7", 101)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    let file = service.put("client-secret", "wrong");
    service.secret_from(&file);
    service.run().await;
    service.accept(&truncated("7", 101)).await;
    assert!(service.parked(1).await[0].contains("(invalid_client)"));
    service.put("client-secret", "demo-secret");
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!(service.parked_now().await.len(), 0);
}

/// An endpoint of the integrator's: answers by user, and counts.
async fn token_endpoint(simulator: &Simulator) -> (String, Arc<Mutex<BTreeMap<String, usize>>>) {
    type Asked = Arc<Mutex<BTreeMap<String, usize>>>;
    #[derive(Clone)]
    struct Shared {
        asked: Asked,
        token: String,
    }
    async fn answer(
        State(shared): State<Shared>,
        Path(user): Path<String>,
        headers: HeaderMap,
    ) -> (StatusCode, String) {
        let times = {
            let mut asked = shared.asked.lock().unwrap();
            *asked.entry(user.clone()).and_modify(|times| *times += 1).or_insert(1)
        };
        if headers.get("authorization").is_none_or(|value| value != "Bearer let-me-in") {
            return (StatusCode::UNAUTHORIZED, String::new());
        }
        match user.as_str() {
            "u4/ü" => (StatusCode::NOT_FOUND, String::new()),
            "u5" if times < 3 => (StatusCode::BAD_GATEWAY, String::new()),
            "u6" => (StatusCode::FORBIDDEN, r#"{"error":"NO_CONSENT"}"#.to_owned()),
            _ => (StatusCode::OK, format!(r#"{{"access_token":"{}","expires_in":3600}}"#, shared.token)),
        }
    }
    let http = simulator.auth_url();
    let token: serde_json::Value = serde_json::from_str(
        &reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{http}/token"))
            .json(&serde_json::json!({
                "grant_type": "password", "client_id": "demo", "client_secret": "demo-secret",
                "username": "u7@example.com", "password": "p"
            }))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    )
    .unwrap();
    let shared = Shared { asked: Asked::default(), token: token["access_token"].as_str().unwrap().to_owned() };
    let asked = Arc::clone(&shared.asked);
    let router = Router::new().route("/token/{user}", get(answer)).with_state(shared);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token/{{user_id}}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_of_the_integrator_gives_out_tokens() {
    let mut connections: Vec<_> = ["7", "5"].map(|id| connection(id, 101)).into();
    // The endpoint's one token is this user's.
    for connection in &mut connections {
        "u7".clone_into(&mut connection.user);
    }
    let settings = Settings { connections, users: vec![user("u7", "p")], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    let (url, asked) = token_endpoint(&service.simulator).await;
    service.configure(Some(&format!(
        "[linxo.users]\nmode = \"endpoint\"\nurl = \"{url}\"\nbearer = {{ env = \"BEARER\" }}"
    )));
    service.run().await;
    let event =
        |id: &str, user: &str| event_json(&format!("e{id}"), id, 101, true).replace(&format!("\"u{id}\""), user);
    service.accept(&event("7", "\"u7\"")).await;
    service.accept(&event("5", "\"u5\"")).await;
    service.accept(&event("4", "\"u4/ü\"")).await;
    service.accept(&event("6", "\"u6\"")).await;
    service.accept(&event("3", "\"..\"")).await;
    service.accept(&event("2", "null")).await;
    for delivery in service.delivered(2).await {
        assert_complete(&service.simulator, &delivery);
    }
    let reasons = service.parked(4).await;
    for part in ["does not know the user", "answered 403 (NO_CONSENT)", "cannot stand in a URL", "names no user"] {
        assert_eq!(reasons.iter().filter(|reason| reason.contains(part)).count(), 1, "{part}: {reasons:?}");
    }
    let asked = asked.lock().unwrap();
    assert_eq!((asked["u7"], asked["u5"], asked["u4/ü"], asked.len()), (1, 3, 1, 4));
    assert_eq!(service.asked(Endpoint::Token), 1, "only the test's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_requests_at_once_than_allowed_nor_faster() {
    let connections: Vec<_> = (100..112).map(|id| connection(&id.to_string(), 300)).collect();
    let settings = Settings { connections, latency: Duration::from_millis(30), ..Settings::default() };
    let service = Service::start(settings, "max_requests = 3\nrate = 50").await;
    for id in 100..112 {
        service.accept(&truncated(&id.to_string(), 300)).await;
    }
    for delivery in service.delivered(12).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert!(service.simulator.counters().peak_in_flight <= 3);
    let mut times: Vec<i64> = service.simulator.requests().iter().map(|request| request.at_ms).collect();
    times.sort_unstable();
    let (requests, took) = (i64::try_from(times.len()).unwrap(), times[times.len() - 1] - times[0]);
    assert!(took >= (requests - 1) * 20 - 20, "{requests} requests in {took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bound_parks_and_says_which() {
    for (lines, reason) in [
        ("max_accounts = 50", "more accounts than linxo.max_accounts allows (50)"),
        ("max_size = \"1 KiB\"", "larger than linxo.max_size allows"),
        ("list_timeout = \"1s\"\npage_concurrency = 1", "longer to read than linxo.list_timeout allows (1 s)"),
    ] {
        let settings = Settings {
            connections: vec![connection("7", 1000)],
            latency: Duration::from_millis(150),
            ..Settings::default()
        };
        let service = Service::start(settings, lines).await;
        service.accept(&truncated("7", 1000)).await;
        let parked = service.parked(1).await;
        assert!(parked[0].contains(reason), "{parked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_announced_far_too_long_is_not_asked_for_to_its_announced_end() {
    let settings = Settings { connections: vec![connection("7", 102)], ..Settings::default() };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 1_000_000)).await;
    let delivery = &service.delivered(1).await[0];
    assert_eq!((ids(delivery).len(), &delivery["linxomismatch"]), (102, &true.into()));
    assert!(service.asked(Endpoint::Accounts) < 40, "{}", service.asked(Endpoint::Accounts));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_are_shared() {
    let settings = Settings { connections: vec![connection("7", 250)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    // Both are there before the list is read.
    let path = service.path("inbox.db");
    let inbox = Sqlite::open(&path, &crate::support::inbox_config(), &["lines".to_owned()], Access::Owner).unwrap();
    for id in ["a", "b", "c"] {
        inbox.accept(crate::support::new_entry(&event_json(id, "7", 250, true))).await.unwrap();
    }
    inbox.close().await;
    drop(inbox);
    service.run().await;
    for delivery in service.delivered(3).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!(service.asked(Endpoint::Accounts), 3);
    // A later event is not older than that reading.
    service.accept(&event_json("d", "7", 250, true)).await;
    service.delivered(4).await;
    assert_eq!(service.asked(Endpoint::Accounts), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_list_was_left() {
    let settings = Settings {
        connections: vec![connection("7", 1000)],
        script: Script::of([Rule { page: Some(7), ..Rule::always(Endpoint::Accounts, status(500, None, false)) }]),
        ..Settings::default()
    };
    let mut service = Service::start(settings, "").await;
    service.accept(&truncated("7", 1000)).await;
    until("a failure", async || (service.asked_page(7) > 1).then_some(())).await;
    service.stop().await;
    service.simulator.script(Script::default());
    service.run().await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    for page in [1, 2, 3, 4, 5, 6, 8, 9, 10] {
        assert_eq!(service.asked_page(page), 1, "page {page}");
    }
}

/// How a list changes while it is read: before which request how many come and go.
type Changes = Vec<(u64, u32, u32)>;

async fn deliver_changing(service: &Service, id: &str, accounts: usize, changes: &Changes) -> serde_json::Value {
    service.simulator.put_connection(&connection(id, accounts));
    let rule = |(call, insert, remove): &(u64, u32, u32)| Rule {
        call: Some(*call),
        connection: Some(id.to_owned()),
        ..Rule::always(Endpoint::Accounts, Fault::Change { insert: *insert, remove: *remove })
    };
    service.simulator.script(Script::of(changes.iter().map(rule).collect::<Vec<_>>()));
    let before = service.deliveries().len();
    service.accept(&truncated(id, accounts)).await;
    service.delivered(before + 1).await.pop().unwrap()
}

/// What must hold however the list changes.
fn assert_sound(service: &Service, id: &str, announced: usize, delivery: &serde_json::Value) {
    let delivered = ids(delivery);
    assert_eq!(delivery["subject"], id);
    assert!(delivered.iter().all(|account| account.starts_with(id)), "an account of another connection");
    assert_eq!(delivery["linxoaccounts"], delivered.len());
    assert_eq!(delivery.get("linxomismatch").is_some(), delivered.len() != announced);
    let missing: Vec<_> =
        service.simulator.accounts_throughout(id).into_iter().filter(|id| !delivered.contains(id)).collect();
    assert!(missing.is_empty(), "existed throughout and are missing: {missing:?}");
}

/// Lists that change while they are read. With `confirm = "always"` in any way; else in one direction at a time, because
/// what goes and what comes can hide each other.
fn changing_lists(confirm: &str, changes: impl Strategy<Value = Changes>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = Settings { connections: Vec::new(), page_cap: 5, ..Settings::default() };
    let service = runtime.block_on(Service::start(settings, &format!("confirm = \"{confirm}\"\npage_concurrency = 2")));
    let number = std::cell::Cell::new(7000);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&(1_usize..40, changes), |(accounts, changes)| {
            number.set(number.get() + 1);
            let id = number.get().to_string();
            let delivery = runtime.block_on(deliver_changing(&service, &id, accounts, &changes));
            assert_sound(&service, &id, accounts, &delivery);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn no_account_that_stays_is_lost_where_every_list_is_confirmed() {
    changing_lists("always", prop::collection::vec((1_u64..14, 0_u32..3, 0_u32..3), 0..4));
}

#[test]
fn no_account_that_stays_is_lost_where_accounts_only_come_or_only_go() {
    let one_way = prop_oneof![
        prop::collection::vec((1_u64..10, 1_u32..3, Just(0_u32)), 0..4),
        prop::collection::vec((1_u64..10, Just(0_u32), 1_u32..3), 0..4),
    ];
    changing_lists("doubt", one_way);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_end_in_complete_deliveries() {
    for seed in 1..=3 {
        let connections: Vec<_> = (100..120).map(|id| connection(&id.to_string(), 250)).collect();
        let mut script = Script::random(seed, 15);
        // Lists that change are another test's.
        script.random.as_mut().unwrap().faults = vec![
            status(500, None, false),
            status(503, Some("1"), true),
            status(429, None, false),
            Fault::Unauthorized,
            Fault::ExpireTokens,
            Fault::NoContent,
            Fault::Html,
            Fault::Cut { after: None },
            Fault::Reset,
            Fault::Truncate,
            Fault::Drip { bytes: 512, every_ms: 1 },
        ];
        let service = Service::start(Settings { connections, script, ..Settings::default() }, "").await;
        for id in 100..120 {
            service.accept(&truncated(&id.to_string(), 250)).await;
        }
        for delivery in service.delivered(20).await {
            assert_complete(&service.simulator, &delivery);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_the_endpoint() {
    let authority = Authority::new("app").unwrap();
    let client = authority.client::<&str>("linxo-webhook", &[]).unwrap();
    let settings = Settings { connections: vec![connection("7", 101)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    pki::write_identity(&service.path("client.pem"), &service.path("client.key"), &client).unwrap();
    let (certificate, key) = (service.path("client.pem"), service.path("client.key"));
    service.configure(Some(&format!(
        "[linxo.users]\nmode = \"endpoint\"\nurl = \"https://localhost:1/{{user_id}}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        certificate.display(),
        key.display()
    )));
    // It is read and fits at least: the service starts. The endpoint is down, so the event waits.
    service.run().await;
    service.accept(&truncated("7", 101)).await;
    until("a failed request", async || {
        (service.figure("linxo_webhook_token_requests_total{outcome=\"network\"}") > 0).then_some(())
    })
    .await;
    assert!(service.parked_now().await.is_empty());
}
