//! What must always be true, law by law: what README.md promises, with the same numbers.

use crate::support::{Door, Endpoint, Site, delivered, documents, entries, event_json, eventually, secrets, settled};
use base::secret::Secret;
use double::{
    CANARY, Connection, Fault, Rule, Script, Settings, account_json,
    events::{DOCUMENTED_TRUNCATED, DOCUMENTED_WHOLE, Plan, event},
};
use event::compact;
use inbox::{Filter, State};
use standardwebhooks::Webhook;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// An endpoint that nobody listens on.
const NOWHERE: &str = "http://127.0.0.1:1/linxo";

fn truncated(id: &str, connection: &Connection) -> Vec<u8> {
    event(&Plan { truncated: true, ..Plan::new(id, connection.clone()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_a_2xx_means_durable() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("worker.concurrency", 0);
    let process = site.spawn().await;
    let mut client = process.door.connect().await;
    for id in 0..20 {
        assert_eq!(client.post(event_json(&id.to_string(), "7", 1, false)).await.unwrap().status, 200);
    }
    process.kill().await;
    // What was accepted and not yet folded is folded by the next start.
    let _process = site.spawn().await;
    let kept: Vec<String> =
        entries(&site.inbox()).await.into_iter().map(|entry| entry.event_id.as_str().to_owned()).collect();
    assert_eq!(kept, (0..20).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_1_a_commit_is_not_cancelled_because_the_sender_hung_up() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let service = site.start().await;
    for id in 0..20 {
        let mut client = service.door.connect().await;
        let event = event_json(&id.to_string(), "7", 1, false);
        client.send(crate::support::request(event)).await.unwrap();
        client.hang_up().await;
    }
    eventually("every event is delivered", async || (delivered(&file).len() == 20).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_2_every_event_is_in_exactly_one_state() {
    let mut site = Site::new();
    let endpoint = Endpoint::start(|received| match received.header("ce-subject") {
        "1" => Some(410),
        "2" => Some(500),
        _ => Some(200),
    })
    .await;
    site.http_sink("app", &endpoint.url());
    let service = site.start().await;
    for id in 0..40 {
        let event = event_json(&id.to_string(), &(id % 4).to_string(), 1, id % 8 == 3);
        service.door.accept(event).await;
    }
    let inbox = &service.running.inbox;
    let of = async |state| {
        let filter = Filter { state: Some(state), ..Filter::default() };
        inbox.desk.list(&filter, 1000).await.unwrap()
    };
    eventually("what can be done is done", async || (of(State::Done).await.len() == 15).then_some(())).await;
    eventually("what is refused is parked", async || (of(State::Parked).await.len() == 15).then_some(())).await;
    // What fails and what waits behind it; nothing is leased for long.
    eventually("the rest waits", async || (of(State::Waiting).await.len() == 10).then_some(())).await;
    for entry in of(State::Parked).await {
        assert!(entry.stages.iter().any(|stage| stage.reason.as_deref().is_some_and(|reason| reason.len() > 20)));
    }
    let mut all: Vec<i64> = Vec::new();
    for state in State::ALL {
        all.extend(of(state).await.iter().map(|entry| entry.seq.0));
    }
    all.sort_unstable();
    assert_eq!(all, (1..=40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn law_3_the_documented_events_share_an_id_and_are_both_delivered() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let simulator = site.simulator(Settings::default()).await;
    let service = site.start().await;
    for _ in 0..3 {
        service.door.accept(DOCUMENTED_WHOLE).await;
        service.door.accept(DOCUMENTED_TRUNCATED).await;
    }
    let kept = service.settled().await;
    assert_eq!(kept.iter().map(|entry| entry.state).collect::<Vec<_>>(), [State::Done, State::Done]);
    assert_eq!(service.metric(r#"linxo_webhook_events_total{outcome="duplicate"}"#), 4);
    assert_eq!(service.metric(r#"linxo_webhook_events_total{outcome="conflict"}"#), 1);
    let documents = documents(&file);
    assert_eq!(documents.len(), 2);
    let (whole, completed) = (&documents[0], &documents[1]);
    assert_eq!(whole["id"], "abc123456");
    assert!(completed["id"].as_str().unwrap().starts_with("abc123456~"));
    assert_eq!((&whole["linxocompletion"], &completed["linxocompletion"]), (&"event".into(), &"api".into()));
    assert_eq!((&whole["linxoaccounts"], &completed["linxoaccounts"]), (&2.into(), &102.into()));
    for document in &documents {
        assert_eq!(document["data"]["id"], "abc123456");
        assert_eq!(document["type"], "com.linxo.connections.updated");
        assert_eq!(document["time"], "2017-11-06T08:04:08Z");
        assert_eq!((&document["subject"], &document["linxouser"]), (&"123".into(), &"321".into()));
        assert_eq!(document["source"], simulator.api_url());
    }
    let found: Vec<&str> = completed["data"]["resource"]["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["id"].as_str().unwrap())
        .collect();
    assert_eq!(found, simulator.accounts("123"));
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_receivers_see_one_shape_however_many_accounts_there_are() {
    let sizes = [0, 1, 99, 100, 101, 102, 200, 1234];
    let connections: Vec<Connection> =
        (0..).zip(sizes).map(|(number, accounts)| Connection::numbered(number, accounts)).collect();
    let mut site = Site::new();
    let file = site.file_sink("file");
    let simulator = site.simulator(Settings { connections: connections.clone(), ..Settings::default() }).await;
    let service = site.start().await;
    for connection in &connections {
        service.door.accept(event(&Plan::new(&connection.id, connection.clone()))).await;
    }
    service.settled().await;
    let documents = documents(&file);
    assert_eq!(documents.len(), sizes.len());
    for connection in &connections {
        let document = documents.iter().find(|document| document["id"] == connection.id.as_str()).unwrap();
        let accounts = document["data"]["resource"]["accounts"].as_array().unwrap();
        let mut found: Vec<&str> = accounts.iter().map(|account| account["id"].as_str().unwrap()).collect();
        let mut held = simulator.accounts(&connection.id);
        found.sort_unstable();
        held.sort_unstable();
        assert_eq!(found, held);
        assert_eq!(document["linxoaccounts"], connection.accounts);
        assert_eq!(document["data"]["resource"]["account_count"], connection.accounts);
        assert_eq!(document.get("linxomismatch"), None);
    }
    assert_eq!(service.metric("linxo_webhook_account_mismatch_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_5_bytes_are_kept() {
    let connection = Connection::numbered(1, 120);
    let mut site = Site::new();
    let file = site.file_sink("file");
    let endpoint = Endpoint::start(|_| Some(200)).await;
    site.http_sink("app", &endpoint.url());
    let _simulator = site.simulator(Settings { connections: vec![connection.clone()], ..Settings::default() }).await;
    let service = site.start().await;
    let (before, after) = (
        format!(
            r#" {{ "zeta":1, "id":"e" ,"event_type":"UPDATED","alpha":[1234.56, 10000,-4 ,0.10,1E400,-0,9007199254740993.010],
            "resource_type":"CONNECTIONS","text":"\u00e9\/ \"{{[","resource":{{"user_id":"{}","account_count":120,"accounts":"#,
            connection.user
        ),
        format!("\t,\"later\":{{}},\"id\":\"{}\"}},\"connection_updated\":null}}\r\n", connection.id),
    );
    let body = format!("{before}[ ]{after}");
    service.door.accept(&body).await;
    let kept = service.settled().await;
    assert_eq!(kept[0].state, State::Done, "{kept:#?}");
    assert_eq!(service.running.inbox.desk.body(kept[0].seq).await.unwrap().unwrap(), body.as_bytes());

    let accounts: Vec<String> =
        (0..120).rev().map(|number| account_json(&connection.id, number, double::ApiVersion::V2_1, false)).collect();
    for digits in ["1234.56", "10000", "-4", "0.10", "9007199254740993.01"] {
        assert!(accounts.iter().any(|account| account.contains(&format!(r#""balance":{digits},"#))), "{digits}");
    }
    let completed = format!("{before}[{}]{after}", accounts.join(","));
    let taken = endpoint.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(String::from_utf8_lossy(&taken[0].body), completed);
    Webhook::new(secrets::SIGNING).unwrap().verify(&taken[0].body, &taken[0].headers).unwrap();
    assert_eq!(taken[0].header("webhook-id"), "e");
    assert_eq!(taken[0].header("ce-linxoaccounts"), "120");

    let line = fs::read_to_string(&file).unwrap();
    let compacted = String::from_utf8(compact(completed.as_bytes())).unwrap();
    assert!(line.ends_with(&format!(r#""data":{compacted}}}{}"#, '\n')), "{line}");
}

/// Posts events of several connections, each connection on a socket of its own; ids are `connection-number`.
async fn post_in_order(door: &Door, connections: &[&str], each: usize) {
    let mut senders = JoinSet::new();
    for connection in connections {
        let (door, connection) = (door.clone(), (*connection).to_owned());
        senders.spawn(async move {
            let mut client = door.connect().await;
            for number in 0..each {
                let event = event_json(&format!("{connection}-{number}"), &connection, 1, false);
                assert_eq!(client.post(event).await.unwrap().status, 200);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
}

fn in_order(connection: &str, each: usize) -> Vec<String> {
    (0..each).map(|number| format!("{connection}-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_a_sink_that_fails_at_random_sees_each_connection_in_order() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let mut rng = fastrand::Rng::with_seed(6);
    let endpoint = Endpoint::start(move |_| Some(if rng.u8(..100) < 25 { 503 } else { 200 })).await;
    site.http_sink("app", &endpoint.url());
    let service = site.start().await;
    let connections = ["1", "2", "3", "4", "5", "6"];
    post_in_order(&service.door, &connections, 10).await;
    let kept = service.settled().await;
    assert!(kept.iter().all(|entry| entry.state == State::Done));
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for taken in endpoint.taken() {
        seen.entry(taken.header("ce-subject").to_owned()).or_default().push(taken.header("ce-id").to_owned());
    }
    let written = delivered(&file);
    for connection in connections {
        assert_eq!(seen[connection], in_order(connection, 10));
        let prefix = format!("{connection}-");
        let lines: Vec<_> = written.iter().filter(|id| id.starts_with(&prefix)).cloned().collect();
        assert_eq!(lines, in_order(connection, 10));
    }
    assert!(endpoint.attempts().len() > endpoint.taken().len(), "some failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_a_dead_sink_delays_no_other() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let silent = Endpoint::start(|_| None).await;
    site.http_sink("dead", NOWHERE).http_sink("silent", &silent.url()).set("worker.concurrency", 2);
    site.set("listener.drain_timeout", "\"300ms\"");
    let service = site.start().await;
    post_in_order(&service.door, &["1", "2", "3", "4", "5", "6"], 5).await;
    eventually("the sink that lives has everything", async || (delivered(&file).len() == 30).then_some(())).await;
    for entry in entries(&service.running.inbox).await {
        let state = |stage: &str| entry.stages.iter().find(|found| found.stage.as_str() == stage).unwrap().state;
        assert_ne!(state("dead"), State::Done);
        assert_ne!(state("silent"), State::Done);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_6_a_failing_connection_delays_no_other() {
    let connections: Vec<Connection> = (0..3).map(|number| Connection::numbered(number, 102)).collect();
    let mut site = Site::new();
    let file = site.file_sink("file");
    let failing = Fault::Status { status: 500, retry_after: None, html: false };
    let rule =
        Rule { connection: Some(connections[0].id.clone()), ..Rule::always(double::Endpoint::Accounts, failing) };
    let endpoint = Endpoint::start({
        let refused = connections[1].id.clone();
        move |received| Some(if received.header("ce-subject") == refused { 500 } else { 200 })
    })
    .await;
    site.http_sink("app", &endpoint.url()).set("worker.concurrency", 1);
    let settings = Settings { connections: connections.clone(), script: Script::of([rule]), ..Settings::default() };
    let simulator = site.simulator(settings).await;
    let service = site.start().await;
    for round in 0..3 {
        for connection in &connections {
            service.door.accept(truncated(&format!("{}-{round}", connection.id), connection)).await;
        }
    }
    let third = &connections[2].id;
    eventually("the connection that works is delivered everywhere", async || {
        let taken = endpoint.taken().iter().filter(|taken| taken.header("ce-subject") == third).count();
        let written = delivered(&file).iter().filter(|id| id.starts_with(third.as_str())).count();
        (taken == 3 && written == 3).then_some(())
    })
    .await;
    // When the API is well again, so is the connection, and nothing was lost or turned around.
    simulator.script(Script::default());
    endpoint.judge(|_| Some(200));
    service.settled().await;
    for connection in &connections {
        let prefix = format!("{}-", connection.id);
        let written: Vec<_> = delivered(&file).into_iter().filter(|id| id.starts_with(&prefix)).collect();
        assert_eq!(written, in_order(&connection.id, 3));
    }
}

/// Keys with their wrong values, and the words that must be said of them.
type Wrong<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test(flavor = "multi_thread")]
async fn law_7_refuses_to_start_rather_than_run_open_or_broken() {
    let other = Site::new();
    let foreign_key = format!("{:?}", other.path("certs/server.key").display().to_string());
    let rows: [Wrong<'_>; 4] = [
        (&[("tls.key", &foreign_key)], &["does not belong to"]),
        (&[("tls.clients.mode", "\"required\"")], &["tls.clients.authorities"]),
        (&[("admin.address", "\"0.0.0.0:0\"")], &["admin.token"]),
        (
            &[
                ("listener.max_bdy", "7"),
                ("listener.path", "\"no-slash\""),
                ("linxo.client_id", "\"x\""),
                ("linxo.client_secret", "{ env = \"LINXO_NOT_SET\" }"),
                ("sender.path_secret", "{ file = \"no/such/file\" }"),
                ("inbox.retention", "\"soon\""),
            ],
            &[
                "has 5 problems",
                "did you mean `max_body`?",
                "listener.path",
                "LINXO_NOT_SET",
                "no/such/file",
                "inbox.retention",
            ],
        ),
    ];
    for (keys, words) in rows {
        let mut broken = Site::new();
        broken.file_sink("file");
        for (key, value) in keys {
            broken.set(key, value);
        }
        let output = broken.run(&["serve"]).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(output.stdout.is_empty());
        for word in words {
            assert!(told.contains(word), "no {word} in:\n{told}");
        }
        assert!(!broken.path("data/inbox.db").exists(), "nothing was begun");
    }
}

/// (E3) A sink that is another file under another name is refused by `check` and `serve` alike, and nothing is written to it.
#[tokio::test(flavor = "multi_thread")]
async fn law_7_refuses_a_sink_that_is_another_file() {
    for (name, key) in [("certs/server.key", "tls.key"), ("data/inbox.db", "inbox.url")] {
        let mut site = Site::new();
        let sink = site.file_sink("file");
        std::fs::create_dir(site.path("data")).unwrap();
        if key == "tls.key" {
            std::fs::hard_link(site.path(name), &sink).unwrap();
        } else {
            // The inbox is not there yet.
            std::os::unix::fs::symlink(site.path(name), &sink).unwrap();
        }
        let before = std::fs::read(site.path(name)).ok();
        for command in ["check", "serve"] {
            let output = site.run(&[command]).await;
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{told}");
            assert!(
                told.contains("sink \"file\".path = ") && told.contains(&format!("is used by {key} too")),
                "{told}"
            );
            assert_eq!(std::fs::read(site.path(name)).ok(), before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_8_our_own_trouble_is_503_and_passes() {
    let mut site = Site::new();
    let endpoint = Endpoint::start(|_| Some(503)).await;
    site.http_sink("app", &endpoint.url()).set("inbox.max_waiting", 3);
    let service = site.start().await;
    let post = async |id: &str| service.door.post(event_json(id, id, 1, false)).await;
    for id in ["1", "2", "3"] {
        assert_eq!(post(id).await.status, 200);
    }
    for id in ["1", "4", "5"] {
        let answer = post(id).await;
        assert!(answer.is_our_trouble(), "{answer:?}");
    }
    endpoint.judge(|_| Some(200));
    eventually("the event is taken after all", async || (post("4").await.status == 200).then_some(())).await;
    service.settled().await;
    let mut taken: Vec<_> = endpoint.taken().iter().map(|taken| taken.header("ce-id").to_owned()).collect();
    taken.sort();
    assert_eq!(taken, ["1", "2", "3", "4"]);
}

/// Fails where something that must not be printed stands in a text.
fn assert_clean(what: &str, text: &str) {
    let basic = "ZGVtbzpjbGllbnQtc2VjcmV0";
    for secret in [CANARY, secrets::PATH, secrets::CLIENT, secrets::ADMIN, &secrets::SIGNING[6..], "simulated.", basic]
    {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            panic!("{what} holds {secret}: {}", text[line..].lines().next().unwrap_or_default());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_9_no_personal_data_or_secret_is_printed() {
    for token_body in ["json", "basic"] {
        let mut site = Site::new();
        let file = site.file_sink("file");
        // The first attempts meet everything that an endpoint may say, later ones are taken.
        let mut attempts: BTreeMap<String, usize> = BTreeMap::new();
        let endpoint = Endpoint::start(move |received| {
            let seen = attempts.len();
            let attempt = attempts.entry(received.header("ce-id").to_owned()).or_default();
            *attempt += 1;
            Some(if *attempt == 1 { [500, 404, 503, 410, 200][seen % 5] } else { 200 })
        })
        .await;
        site.http_sink("app", &endpoint.url());
        let connections: Vec<Connection> = (0..12).map(|number| Connection::numbered(number, 102)).collect();
        let client_secret = Secret::new(secrets::CLIENT.to_owned());
        let settings = Settings { connections: connections.clone(), client_secret, ..Settings::default() };
        let leaky = |body: &str| Fault::Body { body: body.to_owned() };
        let script = Script::of([
            Rule { call: Some(1), ..Rule::always(double::Endpoint::Token, leaky("{\"access_token\":{\"CANARY\":1}}")) },
            Rule { call: Some(1), ..Rule::always(double::Endpoint::Accounts, leaky("[{\"id\":\"CANARY")) },
            Rule { call: Some(2), ..Rule::always(double::Endpoint::Accounts, leaky("[{\"CANARY\":\"CANARY\"}]")) },
            Rule { call: Some(3), ..Rule::always(double::Endpoint::Accounts, Fault::Unauthorized) },
            Rule { call: Some(4), ..Rule::always(double::Endpoint::Accounts, Fault::Cut { after: None }) },
            Rule { call: Some(5), ..Rule::always(double::Endpoint::Accounts, Fault::TermsRequired) },
        ]);
        let _simulator = site.simulator(Settings { script, ..settings }).await;
        site.secret("sender.path_secret", secrets::PATH)
            .secret("admin.token", secrets::ADMIN)
            .set("linxo.token_body", format!("{token_body:?}"))
            .set("log.level", "\"trace\"");
        let process = site.spawn().await;
        let post = async |path: &str, body: &[u8]| {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-custom: {CANARY}\r\nauthorization: Bearer {CANARY}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let answer = process.door.exchange([head.as_bytes(), body].concat()).await;
            assert_clean("an answer", &format!("{}{}", answer.head, answer.body));
            answer.status
        };
        let path = format!("/webhooks/linxo/{}?{CANARY}={}", secrets::PATH, secrets::PATH);
        for connection in &connections {
            assert_eq!(post(&path, &truncated(&connection.id, connection)).await, 200);
            let listed = Connection { accounts: 3, ..connection.clone() };
            assert_eq!(post(&path, &event(&Plan::new(format!("w{}", connection.id), listed))).await, 200);
        }
        let whole = event(&Plan::new("x", Connection { accounts: 1, ..connections[0].clone() }));
        let text = String::from_utf8(whole).unwrap();
        let drift = text.replace("\"currency\":\"EUR\"", &format!("\"currency\":[\"{CANARY}\"]"));
        assert_eq!(post(&path, drift.as_bytes()).await, 200);
        assert_eq!(post(&path, &text.as_bytes()[..text.len() - 9]).await, 400);
        assert_eq!(post(&path, text.replace("\"resource\"", &format!("\"{CANARY}\"")).as_bytes()).await, 422);
        assert_eq!(post(&path, format!("\"{CANARY}\"").as_bytes()).await, 400);
        assert_eq!(post(&format!("/{CANARY}/{}", secrets::PATH), text.as_bytes()).await, 404);
        // Over HTTP/2, as literal fields: POST, https, the path, and one of ours; a control character makes the path wrong.
        for end in ["", "\u{7f}"] {
            let field = |name: &str, value: &str| {
                let length = |text: &str| u8::try_from(text.len()).unwrap();
                [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
            };
            let path = field(":path", &format!("/webhooks/linxo/{}{end}", secrets::PATH));
            let head = [vec![0x83, 0x87], path, field("x-custom", CANARY), field("authorization", CANARY)].concat();
            let opening = [0, 0, u8::try_from(head.len()).unwrap(), 1, 5, 0, 0, 0, 1];
            let answers = process.door.exchange_http2(&[&opening[..], &head].concat()).await;
            assert!(!answers.is_empty());
        }
        // Without TLS, twice: what is said once a minute is said at level debug the second time.
        for _ in 0..2 {
            let mut plain = TcpStream::connect(process.door.address).await.unwrap();
            plain.write_all(format!("POST /{CANARY}/{} HTTP/1.1\r\n\r\n", secrets::PATH).as_bytes()).await.unwrap();
            drop(plain.read_to_end(&mut Vec::new()).await);
        }
        let kept = settled(&site.inbox()).await;
        assert!(kept.iter().any(|entry| entry.state == State::Done));
        assert!(kept.iter().any(|entry| entry.state == State::Parked));
        assert!(fs::read_to_string(&file).unwrap().contains(CANARY), "deliveries do hold what they should");

        assert_eq!(crate::support::admin(process.admin, "/metrics", None).await.status, 401);
        for path in ["/metrics", "/readyz", "/livez", "/other"] {
            let answer = crate::support::admin(process.admin, path, Some(secrets::ADMIN)).await;
            assert_clean(path, &answer.body);
        }
        for command in [
            &["inbox", "ls", "--all"][..],
            &["inbox", "ls", "--all", "--json"],
            &["inbox", "show", "x"],
            &["inbox", "show", "x", "--json"],
            &["inbox", "show", "700004"],
            &["check"],
        ] {
            let output = site.run(command).await;
            assert!(output.status.success(), "{output:?}");
            assert_clean(&command.join(" "), &String::from_utf8_lossy(&output.stdout));
            assert_clean(&command.join(" "), &String::from_utf8_lossy(&output.stderr));
        }
        process.signal(rustix::process::Signal::TERM);
        let (status, output) = process.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(output.contains("\"level\":\"DEBUG\"") && output.contains("event completed through the API"));
        assert_clean("the log", &output);
    }
}

/// (E1) A deployment of the sink, as it is seen from here. `tests/it/sinks.rs` and `tests/it/evidence.rs` have the rest.
#[tokio::test(flavor = "multi_thread")]
async fn law_10_a_sink_that_refuses_for_a_while_parks_nothing() {
    let started = Instant::now();
    let deployed = move || started.elapsed() > Duration::from_secs(6);
    let endpoint = Endpoint::start(move |_| Some(if deployed() { 200 } else { 404 })).await;
    let mut site = Site::new();
    site.http_sink("app", &endpoint.url());
    let service = site.start().await;
    post_in_order(&service.door, &["1", "2", "3"], 2).await;
    let kept = eventually("the deployment is over, and all is delivered", async || {
        let kept = entries(&service.running.inbox).await;
        assert!(kept.iter().all(|entry| entry.state != State::Parked));
        (endpoint.taken().len() == 6).then_some(kept)
    })
    .await;
    assert!(kept.len() == 6 && endpoint.attempts().len() > 6, "some were refused");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_of_the_readme_has_its_test() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let promised =
        readme.lines().filter(|line| line.split_once(". **").is_some_and(|(number, _)| number.parse::<u8>().is_ok()));
    let source = include_str!("laws.rs");
    let mut laws = 0;
    for (number, law) in (1..).zip(promised) {
        assert!(law.starts_with(&format!("{number}. ")));
        assert!(source.contains(&format!("async fn law_{number}_")), "{law}");
        laws += 1;
    }
    assert_eq!(laws, 10);
}
