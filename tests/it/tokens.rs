//! Tokens for the users whom events name: where they come from, how many are asked for, and what is parked without one.

use crate::{
    support::event_json,
    support_api::{Service, assert_complete, connection, truncated, until},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base::{clock, secret::Secret};
use double::{
    ApiVersion, Endpoint, Fault, Rule, Script, Settings, Simulator, TokenBody, User,
    pki::{self, Authority},
};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const ACCOUNTS: usize = 102;

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

#[tokio::test(flavor = "multi_thread")]
async fn as_many_tokens_are_asked_for_as_their_lifetime_takes() {
    // Eleven pages, two at once, of 150 ms each: about a second.
    for (value, most) in [
        (Some(3600.into()), 1),
        (Some("3600".into()), 1),
        (Some("soon".into()), 1),
        (Some((-5).into()), 1),
        (Some(0.into()), 1),
        (None, 1),
        (Some(1.into()), 4),
    ] {
        let settings = Settings {
            connections: vec![connection("7", 1050)],
            page_cap: 100,
            latency: Duration::from_millis(150),
            script: Script::of([Rule::always(Endpoint::Token, Fault::ExpiresIn { value: value.clone() })]),
            ..Settings::default()
        };
        let service = Service::start(settings, "page_concurrency = 2").await;
        service.accept(&truncated("7", 1050)).await;
        assert_complete(&service.simulator, &service.delivered(1).await[0]);
        let asked = service.asked(Endpoint::Token);
        assert!((1..=most).contains(&asked), "{value:?}: {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_of_a_hundred_completions_is_renewed_once() {
    let connections: Vec<_> = (100..200).map(|id| connection(&id.to_string(), 250)).collect();
    let expires = Rule { call: Some(60), ..Rule::always(Endpoint::Accounts, Fault::ExpireTokens) };
    let settings = Settings {
        connections,
        latency: Duration::from_millis(20),
        script: Script::of([expires]),
        ..Settings::default()
    };
    let service = Service::start(settings, "").await;
    for id in 100..200 {
        service.accept(&truncated(&id.to_string(), 250)).await;
    }
    for delivery in service.delivered(100).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!(service.asked(Endpoint::Token), 2);
    assert_eq!(service.figure("linxo_webhook_completions_total{outcome=\"retry\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_do_not_end_in_a_long_queue_for_the_api() {
    let settings = Settings {
        connections: vec![connection("7", 4000)],
        token_lifetime: Duration::from_secs(2),
        ..Settings::default()
    };
    // Forty pages at ten a second wait for up to four seconds.
    let service = Service::start(settings, "rate = 10\nmax_requests = 64\npage_concurrency = 64").await;
    service.accept(&truncated("7", 4000)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    let refused = service.simulator.requests().iter().filter(|request| request.status == Some(401)).count();
    assert_eq!(refused, 0);
    let asked = service.asked(Endpoint::Token);
    assert!((2..=6).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_cannot_be_named_to_the_api_hold_up_nobody() {
    let settings = Settings { connections: vec![connection("7", 101)], ..Settings::default() };
    let service = Service::start(settings, "").await;
    for number in 0..40 {
        let event = event_json(&format!("odd{number}"), &format!("c{number}"), 101, true);
        service.accept(&event.replace(&format!("\"uc{number}\""), "\"é\\n\"")).await;
    }
    let reasons = service.parked(40).await;
    assert!(reasons.iter().all(|reason| reason.contains("cannot stand in a header")), "{reasons:?}");
    service.accept(&truncated("7", 101)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!(service.figure("linxo_webhook_completions_total{outcome=\"paused\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_let_in_again_gets_the_parked_events_of_all_users() {
    let refused = Fault::Status { status: 401, retry_after: None, html: false };
    let settings = Settings {
        connections: vec![connection("7", 101), connection("8", 101)],
        script: Script::of([Rule::always(Endpoint::Token, refused)]),
        ..Settings::default()
    };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 101)).await;
    service.accept(&truncated("8", 101)).await;
    let reasons = service.parked(2).await;
    assert!(reasons[0].contains("no token: the token endpoint of linxo.auth answered 401"), "{reasons:?}");
    service.simulator.script(Script::default());
    // Nothing changes here, and nothing new comes in.
    for delivery in service.delivered(2).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert!(service.parked_now().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_the_endpoint_comes_to_know_gets_the_parked_events() {
    let known = Arc::new(Mutex::new(BTreeSet::<String>::new()));
    let answer = |State(known): State<Arc<Mutex<BTreeSet<String>>>>, Path(user): Path<String>| async move {
        let is_known = known.lock().unwrap().contains(&user);
        let answer = if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND };
        (answer, r#"{"access_token":"fixed","expires_in":3600}"#)
    };
    let router = Router::new().route("/token/{user}", get(answer)).with_state(Arc::clone(&known));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token/{{user_id}}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let settings = Settings {
        connections: vec![connection("7", 101), connection("8", 101)],
        fixed_token: Some(Secret::new("fixed".to_owned())),
        ..Settings::default()
    };
    let mut service = Service::set(settings, "").await;
    service.configure(Some(&format!("[linxo.users]\nmode = \"endpoint\"\nurl = \"{url}\"")));
    service.run().await;
    service.accept(&truncated("7", 101)).await;
    service.accept(&truncated("8", 101)).await;
    let reasons = service.parked(2).await;
    assert!(reasons.iter().all(|reason| reason.contains("asked again from time to time")), "{reasons:?}");
    known.lock().unwrap().insert("u7".to_owned());
    assert_eq!(service.delivered(1).await[0]["subject"], "7");
    assert_eq!(service.parked_now().await.len(), 1, "the other one is not known yet");
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
    service.refused_for_an_hour(1).await;
    service.simulator.script(Script::default());
    service.accept(&event_json("e8", "8", 101, true).replace("\"u8\"", "\"u7\"")).await;
    let subjects: BTreeSet<String> =
        service.delivered(2).await.iter().map(|delivery| delivery["subject"].to_string()).collect();
    assert_eq!(subjects.len(), 2);
    assert!(service.parked_now().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_tries_one_refused_event_of_each_other_connection_and_no_more() {
    const EACH: usize = 3;
    let mut connections: Vec<_> = ["1", "2", "3", "9"].map(|id| connection(id, 101)).into();
    for connection in &mut connections {
        "u7".clone_into(&mut connection.user);
    }
    let refuse = |id: &&str| Rule {
        connection: Some((*id).to_owned()),
        ..Rule::always(Endpoint::Accounts, Fault::TermsRequired)
    };
    let script = Script::of(["1", "2", "3"].iter().map(refuse).collect::<Vec<_>>());
    let service = Service::start(Settings { connections, script, ..Settings::default() }, "").await;
    let post = async |id: &str, event: String| {
        service.accept(&event_json(&event, id, 101, true).replace(&format!("\"u{id}\""), "\"u7\"")).await;
    };
    for number in 0..EACH {
        for id in ["1", "2", "3"] {
            post(id, format!("e{id}-{number}")).await;
        }
    }
    service.refused_for_an_hour(3 * EACH).await;

    // How often each is asked for is a matter of chance: it is refused once or twice before it counts as refused for an hour.
    for success in 1..=2 {
        let before = clock::now();
        post("9", format!("e9-{success}")).await;
        service.delivered(success).await;
        until("one of each connection is tried", async || {
            service.refused_for_an_hour(3 * EACH).await;
            let parked = service.parked_now().await;
            let tried = parked.iter().filter(|entry| entry.stages[0].changed > before);
            let tried: Vec<_> = tried.map(|entry| entry.connection.as_str().to_owned()).collect();
            assert!(
                tried.len() == tried.iter().collect::<BTreeSet<_>>().len(),
                "more than one of a connection: {tried:?}"
            );
            (tried.len() == 3).then_some(())
        })
        .await;
    }

    // One that is let through brings those of its connection along, and one reading serves them all.
    service.simulator.script(Script::default());
    service.simulator.forget_requests();
    post("9", "e9-3".to_owned()).await;
    service.delivered(3 + 3 * EACH).await;
    assert!(service.parked_now().await.is_empty());
    assert_eq!(service.asked(Endpoint::Accounts), 2 + 3 * 2);
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
    // The same again changes nothing. It was looked at once a token was asked for without an event.
    service.stop().await;
    let asked = service.asked(Endpoint::Token);
    service.run_with_secret("wrong").await;
    until("a look", async || (service.asked(Endpoint::Token) > asked).then_some(())).await;
    assert_eq!(service.parked_now().await.len(), 2);
    assert_eq!(service.figure("linxo_webhook_completions_total{outcome=\"parked\"}"), 0);
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

/// Answers whoever shows a certificate of the authority with a token, over TLS.
async fn serve_over_tls(authority: &Authority, token: String) -> u16 {
    let identity = authority.server(&["localhost"]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.identity().certificates().unwrap().remove(0)).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.certificates().unwrap(), identity.key().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            assert!(request.starts_with(b"GET /token?user=u7 "));
            let answer = format!(r#"{{"access_token":"{token}"}}"#);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_the_endpoint() {
    let authority = Authority::new("app").unwrap();
    let token = Secret::new("fixed".to_owned());
    let settings =
        Settings { connections: vec![connection("7", 101)], fixed_token: Some(token), ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    let port = serve_over_tls(&authority, "fixed".to_owned()).await;
    let roots = service.put("app.pem", authority.certificate_pem());
    let (certificate, key) = (service.path("client.pem"), service.path("client.key"));
    let client = authority.client::<&str>("linxo-webhook", &[]).unwrap();
    pki::write_identity(&certificate, &key, &client).unwrap();
    let users = format!(
        "timeout = \"2s\"\n[linxo.users]\nmode = \"endpoint\"\nurl = \"https://localhost:{port}/token?user={{user_id}}\"\n\
         authorities = [\"{}\"]\n",
        roots.display()
    );
    // Without a certificate the endpoint lets nobody in, and the event waits.
    service.configure(Some(&users));
    service.run().await;
    service.accept(&truncated("7", 101)).await;
    until("a refused handshake", async || {
        (service.figure("linxo_webhook_token_requests_total{outcome=\"network\"}") > 0).then_some(())
    })
    .await;
    service.stop().await;
    let identity = format!("certificate = \"{}\"\nkey = \"{}\"", certificate.display(), key.display());
    service.configure(Some(&format!("{users}{identity}")));
    service.run().await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
}
