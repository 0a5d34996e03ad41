//! Paging, both wire versions, and every kind of fault, through real sockets.

use super::*;
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};
use tokio::net::TcpListener;

struct Caller {
    http: reqwest::Client,
    token: String,
}

impl Caller {
    async fn new(simulator: &Simulator) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(500))
            .tls_certs_only([])
            .build()
            .unwrap();
        let form = [("client_id", "demo"), ("client_secret", "demo-secret"), ("grant_type", "client_credentials")];
        let url = format!("{}/token", simulator.auth_url());
        let answer: Value = http.post(url).form(&form).send().await.unwrap().json().await.unwrap();
        Self { http, token: answer["access_token"].as_str().unwrap().to_owned() }
    }

    async fn get(&self, simulator: &Simulator, path: &str) -> reqwest::Result<reqwest::Response> {
        let request = self.http.get(format!("{}{path}", simulator.api_url())).bearer_auth(&self.token);
        request.header("x-linxo-user-id", "321").send().await
    }

    async fn text(&self, simulator: &Simulator, path: &str) -> reqwest::Result<String> {
        self.get(simulator, path).await?.text().await
    }

    async fn ids(&self, simulator: &Simulator, path: &str) -> Vec<String> {
        let page: Vec<Value> = serde_json::from_str(&self.text(simulator, path).await.unwrap()).unwrap();
        page.iter().map(|account| account["id"].as_str().unwrap().to_owned()).collect()
    }
}

async fn with_script(rules: impl Into<Vec<Rule>>) -> (Simulator, Caller) {
    let simulator = Simulator::start(Settings::default()).await.unwrap();
    let caller = Caller::new(&simulator).await;
    simulator.script(Script::of(rules));
    (simulator, caller)
}

async fn with(fault: Fault) -> (Simulator, Caller) {
    with_script([Rule::always(Endpoint::Accounts, fault)]).await
}

const PAGE: &str = "/accounts?connection_id=123&page=1&limit=100";

#[tokio::test]
async fn pages_cover_the_listing_and_the_limit_is_capped() {
    let (simulator, caller) = with_script([]).await;
    let first = caller.ids(&simulator, "/accounts?connection_id=123&page=1&limit=500").await;
    let second = caller.ids(&simulator, "/accounts?connection_id=123&page=2&limit=500").await;
    let third = caller.ids(&simulator, "/accounts?connection_id=123&page=3&limit=500").await;
    assert_eq!((first.len(), second.len(), third.len()), (100, 2, 0));
    assert_eq!([first, second].concat(), simulator.accounts("123"));
    let pages: Vec<_> = simulator.requests().iter().filter_map(|request| request.page).collect();
    assert_eq!(pages, [1, 2, 3]);
}

#[tokio::test]
async fn an_unknown_filter_lists_every_account_of_the_user() {
    let (simulator, caller) = with_script([]).await;
    simulator.put_connection(&Connection { id: "124".to_owned(), user: "321".to_owned(), accounts: 3 });
    simulator.put_connection(&Connection { id: "125".to_owned(), user: "322".to_owned(), accounts: 3 });
    assert_eq!(caller.ids(&simulator, "/accounts?connection_id=124").await.len(), 3);
    assert_eq!(caller.ids(&simulator, "/accounts?connectionid=124&page=2").await.len(), 5);
    assert_eq!(caller.get(&simulator, "/accounts?connection_id=125").await.unwrap().status(), 404);
}

#[tokio::test]
async fn version_3_wraps_lists_and_takes_the_user_from_the_query() {
    let settings = Settings { version: ApiVersion::V3, ..Settings::default() };
    let simulator = Simulator::start(settings).await.unwrap();
    let caller = Caller::new(&simulator).await;
    assert!(simulator.api_url().ends_with("/v3"));
    let text = caller.text(&simulator, "/accounts?user_id=321&connection_id=123").await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["accounts"].as_array().unwrap().len(), 100);
    assert!(answer["accounts"][0]["balance"]["amount"]["amount"].is_string());
    assert_eq!(caller.get(&simulator, "/accounts?connection_id=123").await.unwrap().status(), 403);
}

#[tokio::test]
async fn connections_are_served_and_gone_ones_are_404() {
    let (simulator, caller) = with_script([]).await;
    let one: Value = serde_json::from_str(&caller.text(&simulator, "/connections/123").await.unwrap()).unwrap();
    assert_eq!(one["user_id"], "321");
    let all: Value = serde_json::from_str(&caller.text(&simulator, "/connections").await.unwrap()).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    simulator.remove_connection("123");
    assert_eq!(caller.get(&simulator, "/connections/123").await.unwrap().status(), 404);
}

#[tokio::test]
async fn tokens_are_needed_and_expire() {
    let (simulator, mut caller) = with_script([]).await;
    assert_eq!(caller.get(&simulator, PAGE).await.unwrap().status(), 200);
    simulator.expire_tokens();
    assert_eq!(caller.get(&simulator, PAGE).await.unwrap().status(), 401);
    caller = Caller::new(&simulator).await;
    assert_eq!(caller.get(&simulator, PAGE).await.unwrap().status(), 200);
    assert_eq!(simulator.counters().tokens, 2);
}

#[tokio::test]
async fn faults_that_answer_instead() {
    let other = Fault::Redirect { to: Target::Other, location: Some("https://other.example/x".to_owned()) };
    let status =
        |status, retry_after: &str| Fault::Status { status, retry_after: Some(retry_after.to_owned()), html: false };
    for (fault, expected, header, value) in [
        (status(503, "2"), 503, "retry-after", "2"),
        (status(429, "soon"), 429, "retry-after", "soon"),
        (status(429, "date:5"), 429, "retry-after", "GMT"),
        (Fault::Status { status: 502, retry_after: None, html: true }, 502, "content-type", "text/html"),
        (Fault::Unauthorized, 401, "content-type", "application/json"),
        (Fault::ExpireTokens, 401, "content-type", "application/json"),
        (Fault::TermsRequired, 403, "content-type", "application/json"),
        (Fault::UnknownConnection, 404, "content-type", "application/json"),
        (Fault::NoContent, 204, "date", "GMT"),
        (Fault::Html, 200, "content-type", "text/html"),
        (Fault::Body { body: "{".to_owned() }, 200, "content-type", "application/json"),
        (Fault::GzipBomb { bytes: 5_000_000 }, 200, "content-encoding", "gzip"),
        (Fault::WrongType { content_type: "text/plain".to_owned() }, 200, "content-type", "text/plain"),
        (other, 302, "location", "https://other.example/x"),
        (Fault::Redirect { to: Target::Loop, location: None }, 302, "location", "limit=100"),
        (Fault::Redirect { to: Target::Same, location: None }, 302, "location", "limit=100&hop=1"),
    ] {
        let (simulator, caller) = with(fault.clone()).await;
        let answer = caller.get(&simulator, PAGE).await.unwrap();
        assert_eq!(answer.status(), expected, "{fault:?}");
        assert!(answer.headers()[header].to_str().unwrap().ends_with(value), "{fault:?}");
        assert_eq!(simulator.requests().last().unwrap().faults, [fault.kind()]);
    }
}

#[tokio::test]
async fn a_redirect_within_the_origin_leads_to_the_answer() {
    let (simulator, caller) = with(Fault::Redirect { to: Target::Same, location: None }).await;
    assert_eq!(caller.ids(&simulator, &format!("{PAGE}&hop=1")).await.len(), 100);
}

#[tokio::test]
async fn faults_that_break_the_answer() {
    let hour = 3_600_000;
    for fault in [
        Fault::Reset,
        Fault::Cut { after: None },
        Fault::Cut { after: Some(0) },
        Fault::StallHead { ms: hour },
        Fault::StallBody { ms: hour },
        Fault::Drip { bytes: 1, every_ms: 10 },
        Fault::Endless,
    ] {
        let (simulator, caller) = with(fault.clone()).await;
        assert!(caller.text(&simulator, PAGE).await.is_err(), "{fault:?}");
    }
    let (simulator, caller) = with(Fault::Truncate).await;
    let text = caller.text(&simulator, PAGE).await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err());
    let (simulator, caller) = with(Fault::Huge { bytes: 3_000_000 }).await;
    assert_eq!(caller.text(&simulator, PAGE).await.unwrap().len(), 3_000_000);
    let (simulator, caller) = with(Fault::Delay { ms: 1 }).await;
    assert_eq!(caller.ids(&simulator, PAGE).await.len(), 100);
}

#[tokio::test]
async fn faults_that_bend_the_listing() {
    let second = "/accounts?connection_id=123&page=2&limit=10";
    let (simulator, caller) = with(Fault::RepeatPage).await;
    assert_eq!(caller.ids(&simulator, second).await, simulator.accounts("123")[..10]);
    let (simulator, caller) = with(Fault::IgnoreLimit { size: None }).await;
    assert_eq!(caller.ids(&simulator, second).await.len(), 0);
    assert_eq!(caller.ids(&simulator, PAGE).await.len(), 102);
    let (simulator, caller) = with(Fault::IgnoreLimit { size: Some(7) }).await;
    assert_eq!(caller.ids(&simulator, PAGE).await.len(), 7);
    let (simulator, caller) = with(Fault::IgnoreFilter).await;
    simulator.put_connection(&Connection { id: "124".to_owned(), user: "321".to_owned(), accounts: 3 });
    assert_eq!(caller.ids(&simulator, "/accounts?connection_id=124").await.len(), 100);
    let (simulator, caller) = with(Fault::IntegerIds).await;
    let text = caller.text(&simulator, PAGE).await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap()[0]["id"].is_u64());
}

#[tokio::test]
async fn lists_change_between_pages_and_the_steady_accounts_are_known() {
    let (simulator, caller) = with(Fault::Change { insert: 2, remove: 1 }).await;
    let mut seen = BTreeSet::new();
    for page in 1..=12 {
        seen.extend(caller.ids(&simulator, &format!("/accounts?connection_id=123&page={page}&limit=10")).await);
    }
    assert_eq!(simulator.accounts("123").len(), 102 + 12);
    let throughout = simulator.accounts_throughout("123");
    assert!(throughout.len() >= 102 - 12 && throughout.len() < 102);
    assert!(!seen.is_empty());
}

#[tokio::test]
async fn the_token_endpoint_has_faults_too() {
    let simulator = Simulator::start(Settings::default()).await.unwrap();
    let caller = Caller::new(&simulator).await;
    let form = [("client_id", "demo"), ("client_secret", "demo-secret"), ("grant_type", "client_credentials")];
    let url = format!("{}/token", simulator.auth_url());
    for (value, expected) in [(Some(Value::from(-1)), Value::from(-1)), (None, Value::Null)] {
        simulator.script(Script::of([Rule::always(Endpoint::Token, Fault::ExpiresIn { value })]));
        let answer: Value = caller.http.post(&url).form(&form).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["expires_in"], expected);
        assert!(answer["access_token"].is_string());
    }
}

#[tokio::test]
async fn http2_over_tls_is_offered_and_the_port_is_free_after_stop() {
    let authority = pki::Authority::new("test").unwrap();
    let identity = authority.server(&["localhost"]).unwrap();
    let settings = Settings { identity: Some(identity), ..Settings::default() };
    let simulator = Simulator::start(settings).await.unwrap();
    let root = reqwest::Certificate::from_pem(authority.certificate_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let answer = client.get(format!("{}/accounts", simulator.api_url())).send().await.unwrap();
    assert_eq!((answer.version(), answer.status()), (reqwest::Version::HTTP_2, reqwest::StatusCode::UNAUTHORIZED));
    let address = simulator.address();
    simulator.stop().await;
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn followers_see_requests_and_no_header_value_is_kept() {
    let (simulator, caller) = with_script([]).await;
    let mut follow = simulator.follow();
    caller.ids(&simulator, PAGE).await;
    let line = serde_json::to_string(&follow.recv().await.unwrap()).unwrap();
    assert!(line.contains(r#""endpoint":"accounts""#) && line.contains("authorization"));
    assert!(!line.contains(&caller.token) && !line.contains("Bearer"));
}

/// (A2) The list of a connection is unknown at first, then grows until it is whole.
#[tokio::test]
async fn a_list_that_is_late_grows_until_it_is_whole() {
    let (simulator, caller) = with(Fault::Late { unknown_ms: 100, ms: 400 }).await;
    assert_eq!(caller.get(&simulator, PAGE).await.unwrap().status(), 404);
    let mut lengths = vec![0];
    while lengths[lengths.len() - 1] < 100 {
        let answer = caller.get(&simulator, PAGE).await.unwrap();
        if answer.status() == 200 {
            let items: Vec<Value> = answer.json().await.unwrap();
            lengths.push(items.len());
        }
    }
    assert!(lengths.is_sorted() && lengths.iter().any(|length| (1..100).contains(length)), "{lengths:?}");
    // Another connection has a time of its own.
    simulator.put_connection(&Connection { id: "124".to_owned(), user: "321".to_owned(), accounts: 3 });
    assert_eq!(caller.get(&simulator, "/accounts?connection_id=124").await.unwrap().status(), 404);
}

/// (A5) What is behind the end answers as the script says, and nothing else does.
#[tokio::test]
async fn pages_behind_the_end_answer_as_they_are_told() {
    for status in [200_u16, 204, 400, 404, 500] {
        let (simulator, caller) = with(Fault::BehindTheEnd { status }).await;
        assert_eq!(caller.ids(&simulator, PAGE).await.len(), 100);
        let behind = caller.get(&simulator, "/accounts?connection_id=123&page=3&limit=100").await.unwrap();
        assert_eq!(behind.status(), status);
        assert_eq!(behind.bytes().await.unwrap().is_empty(), status < 300);
    }
}

/// (A7, A8) Answers that are packed, or that say that they are not, and items that are no accounts.
#[tokio::test]
async fn answers_are_packed_and_items_are_bad_as_they_are_told() {
    let (simulator, caller) = with(Fault::Gzip).await;
    let packed = caller.get(&simulator, PAGE).await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.bytes().await.unwrap().starts_with(&[0x1f, 0x8b]));
    let (simulator, caller) = with(Fault::Coding { value: "identity".to_owned() }).await;
    let plain = caller.get(&simulator, PAGE).await.unwrap();
    assert_eq!(plain.headers()["content-encoding"], "identity");
    assert!(plain.text().await.unwrap().starts_with("[{"));
    let (simulator, caller) = with(Fault::BadItem { at: 1, item: "null".to_owned() }).await;
    let items: Vec<Value> = serde_json::from_str(&caller.text(&simulator, PAGE).await.unwrap()).unwrap();
    assert_eq!((items.len(), items[0].is_object(), items[1].is_null()), (100, true, true));
}
