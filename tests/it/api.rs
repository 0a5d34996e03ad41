//! Completion through the true service against a vendor that does everything that can be done to it.

use crate::{
    support::event_json,
    support_api::{Service, assert_complete, connection, ids, truncated, until},
};
use base::secret::Secret;
use double::{Endpoint, Fault, Rule, Script, Settings, Simulator, Target, User, pki::Authority};
use futures_util::future::join_all;
use inbox::State;
use std::{fmt::Write as _, time::Duration};

const ACCOUNTS: usize = 102;
const OPEN: &str = "linxo_webhook_api_breaker_open{peer=\"linxo\"}";
const AUTH_OPEN: &str = "linxo_webhook_api_breaker_open{peer=\"auth\"}";

/// (A4, A7) What becomes of one truncated event.
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
    /// Tried again, with this in the reason: it is not believed before an hour is over.
    Doubted(&'static str),
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
        once("409", status(409, None, false)),
        once("423", status(423, None, false)),
        once("425", status(425, None, false)),
        once("400 once", status(400, None, false)),
        once("403 as a page, once", status(403, None, true)),
        once("packed by another", Fault::Coding { value: "br".to_owned() }),
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
        token("a proxy before the token endpoint refuses", 1, status(403, None, true)),
        always("integer ids", Fault::IntegerIds, Ends::Complete),
        always("an unknown filter", Fault::IgnoreFilter, Ends::Complete),
        always("everything on one page", Fault::IgnoreLimit { size: None }, Ends::Complete),
        always("small pages", Fault::IgnoreLimit { size: Some(7) }, Ends::Complete),
        always("another content type", Fault::WrongType { content_type: "text/plain".to_owned() }, Ends::Complete),
        always("a slow API", Fault::Delay { ms: 100 }, Ends::Complete),
        always("packed", Fault::Gzip, Ends::Complete),
        always("said to be plain", Fault::Coding { value: "identity".to_owned() }, Ends::Complete),
        always("the same page for ever", Fault::RepeatPage, Ends::Flagged(100)),
        always("nothing at all", Fault::Body { body: "[]".to_owned() }, Ends::Flagged(0)),
        always("404", Fault::UnknownConnection, Ends::Gone),
        always("404 of somebody else", status(404, None, true), Ends::Doubted("answered 404")),
        always("400", status(400, None, false), Ends::Doubted("answered 400 (INTERNAL_ERROR)")),
        always("403", status(403, None, false), Ends::Doubted("answered 403")),
        always("terms", Fault::TermsRequired, Ends::Doubted("(ACCEPT_TERMS_AND_CONDITIONS_REQUIRED)")),
        always("endless", Fault::Endless, Ends::Parked("larger than 8 MiB")),
        always("huge", Fault::Huge { bytes: 1 << 30 }, Ends::Parked("larger than 8 MiB")),
        Case {
            rules: vec![Rule::always(Endpoint::Token, status(404, None, false))],
            ..always(
                "the token endpoint knows nobody",
                Fault::Reset,
                Ends::Parked("no token: the token endpoint of linxo.auth answered 404 (INTERNAL_ERROR)"),
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
        Ends::Doubted(reason) => {
            let entry = service.tried(3).await;
            let said = entry.stages[0].reason.clone().unwrap_or_default();
            assert!(said.contains(reason) && entry.state != State::Parked, "{name}: {entry:?}");
            service.simulator.script(Script::default());
            assert_complete(&service.simulator, &service.delivered(1).await[0]);
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

/// When an endpoint was asked, in milliseconds since the epoch, in this order.
fn times(service: &Service, endpoint: Endpoint) -> Vec<i64> {
    let requests = service.simulator.requests();
    requests.iter().filter(|request| request.endpoint == endpoint).map(|request| request.at_ms).collect()
}

/// Waits until an endpoint is asked by single tries, as a breaker makes them: the shortest time between two is half a second.
async fn single_tries(service: &Service, endpoint: Endpoint) {
    until("two single tries", async || {
        let mut at = times(service, endpoint);
        at.sort_unstable();
        let [.., before, first, second] = at[..] else { return None };
        (first - before >= 490 && second - first >= 490).then_some(())
    })
    .await;
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
    single_tries(&service, Endpoint::Accounts).await;
    // Requests that were under way when it opened come on top.
    let tries = service.asked(Endpoint::Accounts) - asked;
    assert!((2..=20).contains(&tries), "{asked} requests, then {tries}");
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
    until("refusals", async || (service.asked(Endpoint::Accounts) >= 40).then_some(())).await;
    service.accept(&truncated("7", ACCOUNTS)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!(service.figure("linxo_webhook_completions_total{outcome=\"paused\"}"), 0);
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

/// Users with a password each, and their table.
fn users(ids: std::ops::Range<u32>) -> (Vec<User>, String) {
    let mut table = "user_id,username,password\n".to_owned();
    let users = ids.map(|id| {
        writeln!(table, "u{id},u{id}@example.com,p").unwrap();
        let password = Secret::new("p".to_owned());
        User { id: format!("u{id}"), username: format!("u{id}@example.com"), password }
    });
    let users = users.collect();
    (users, table)
}

async fn with_passwords(connections: std::ops::Range<u32>, script: Script) -> Service {
    let (users, table) = users(connections.clone());
    let connections = connections.map(|id| connection(&id.to_string(), 101)).collect();
    let mut service = Service::set(Settings { connections, users, script, ..Settings::default() }, "").await;
    let path = service.put("users.csv", &table);
    service.configure(Some(&format!("[linxo.users]\nmode = \"password\"\ntable = \"{}\"", path.display())));
    service.run().await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_given_out_do_not_make_a_failing_api_look_well() {
    let down = Script::of([Rule::always(Endpoint::Accounts, status(503, None, true))]);
    let service = with_passwords(100..160, down).await;
    for id in 100..160 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    until("the breaker", async || (service.figure(OPEN) == 1).then_some(())).await;
    let asked = service.asked(Endpoint::Accounts);
    // Each try is one request, however many users without a token come by.
    single_tries(&service, Endpoint::Accounts).await;
    let tries = service.asked(Endpoint::Accounts) - asked;
    assert!((2..=20).contains(&tries), "{asked} requests, then {tries}");
    assert_eq!((service.figure(OPEN), service.figure(AUTH_OPEN)), (1, 0));
    service.simulator.script(Script::default());
    for delivery in service.delivered(60).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!(service.figure(OPEN), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_whose_token_is_held_are_served_while_the_token_endpoint_is_down() {
    let service = with_passwords(100..140, Script::default()).await;
    service.accept(&truncated("100", 101)).await;
    service.delivered(1).await;
    service.simulator.script(Script::of([Rule::always(Endpoint::Token, status(503, None, true))]));
    for id in 101..140 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    until("the breaker", async || (service.figure(AUTH_OPEN) == 1).then_some(())).await;
    let asked = service.asked(Endpoint::Token);
    for number in 0..5 {
        service.accept(&event_json(&format!("again{number}"), "100", 101, true)).await;
    }
    service.delivered(6).await;
    assert_eq!(service.figure(AUTH_OPEN), 1, "it was down all the time");
    let tries = service.asked(Endpoint::Token) - asked;
    assert!(tries <= 10, "{asked} requests, then {tries}");
    service.simulator.script(Script::default());
    service.delivered(45).await;
    assert_eq!(service.figure(AUTH_OPEN), 0);
}

/// (A6) Two connections are told to rest, one after the other: then nobody asks until the shorter rest is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_the_api_asks_for_is_kept_by_all_events() {
    let connections: Vec<_> = (100..140).map(|id| connection(&id.to_string(), 101)).collect();
    let rest = |call| Rule { call: Some(call), ..Rule::always(Endpoint::Accounts, status(429, Some("3"), false)) };
    let script = Script::of([rest(5), rest(6)]);
    let service = Service::start(Settings { connections, script, ..Settings::default() }, "max_requests = 1").await;
    for id in 100..140 {
        service.accept(&truncated(&id.to_string(), 101)).await;
    }
    until("the rest", async || (service.figure(OPEN) == 1).then_some(())).await;
    for delivery in service.delivered(40).await {
        assert_complete(&service.simulator, &delivery);
    }
    let at = times(&service, Endpoint::Accounts);
    // One request at a time: what comes after the sixth waited for as long as the fifth was told.
    let gaps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((2_500..8_000).contains(&gaps[5]), "{gaps:?}");
    assert_eq!(service.figure(OPEN), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_limits_and_the_token() {
    let connections: Vec<_> = (100..130).map(|id| connection(&id.to_string(), 300)).collect();
    let settings = Settings { connections, latency: Duration::from_millis(100), ..Settings::default() };
    let mut service = Service::set(settings, "max_requests = 3").await;
    service.run().await;
    for id in 100..130 {
        service.accept(&truncated(&id.to_string(), 300)).await;
    }
    until("the first requests", async || (service.asked(Endpoint::Accounts) > 3).then_some(())).await;
    service.configure(Some("max_requests = 3\nlist_timeout = \"50m\""));
    service.write();
    let reloaded = "linxo_webhook_reloads_total{outcome=\"ok\"}";
    until("the reload", async || (service.figure(reloaded) == 1).then_some(())).await;
    assert!(service.deliveries().len() < 30, "some were under way");
    for delivery in service.delivered(30).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!((service.simulator.counters().peak_in_flight, service.asked(Endpoint::Token)), (3, 1));
}
