//! What operators reach through the admin listener: the API, and commands that use it from afar.

use crate::{
    support::{Service, Site, event_json, eventually, secrets, text},
    support_api::connection,
};
use base::clock;
use double::pki;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Stdio, time::Duration};
use tokio::io::{AsyncBufReadExt as _, BufReader};

pub(crate) const ANNA: &str = "token-of-anna-who-acts";

/// A service with one file sink; Anna may act, and the token of the support may read.
pub(crate) async fn start() -> (Site, Service, PathBuf) {
    let mut site = Site::new();
    let lines = site.file_sink("lines");
    let [anna, ben] = [("anna", ANNA), ("ben", secrets::ADMIN)].map(|(name, token)| {
        let file = site.path(name);
        fs::write(&file, token).unwrap();
        text(file.display())
    });
    site.set(
        "admin.token",
        format!(
            "[{{ name = \"anna\", may = \"act\", secret = {{ file = {anna} }} }}, {{ name = \"ben\", secret = {{ file = {ben} }} }}]"
        ),
    );
    let service = site.start().await;
    (site, service, lines)
}

async fn ask(service: &Service, method: Method, path: &str, token: &str, body: Option<Value>) -> (StatusCode, Value) {
    let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let mut request = client.request(method, format!("http://{}/api/v1/{path}", service.admin)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (status, value)
}

async fn get(service: &Service, path: &str) -> Value {
    let (status, value) = ask(service, Method::GET, path, secrets::ADMIN, None).await;
    assert_eq!(status, 200, "{path}: {value}");
    value
}

async fn act(service: &Service, path: &str, body: Option<Value>) -> Value {
    let (status, value) = ask(service, Method::POST, path, ANNA, body).await;
    assert_eq!(status, 200, "{path}: {value}");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_found_parked_and_replayed_to_its_delivery() {
    let (_site, service, lines) = start().await;
    assert_eq!(act(&service, "sinks/lines/pause", None).await, json!({ "changed": true }));
    for number in 1..=3 {
        service.door.accept(event_json(&format!("e{number}"), &format!("c{number}"), 1, false)).await;
    }
    let found = eventually("every event is in the inbox", async || {
        let found = get(&service, "entries?limit=2").await;
        (found["entries"][0]["seq"] == 3).then_some(found)
    })
    .await;
    assert_eq!(found["entries"].as_array().unwrap().len(), 2);
    let next = found["next"].as_str().unwrap();
    let rest = get(&service, &format!("entries?limit=2&cursor={next}")).await;
    assert_eq!((&rest["entries"][0]["id"], &rest["next"]), (&json!("e1"), &Value::Null));
    for (query, ids) in [
        ("connection=c2", vec!["e2"]),
        ("id=e3", vec!["e3"]),
        ("number=1", vec!["e1"]),
        ("state=waiting&sink=lines", vec!["e3", "e2", "e1"]),
        ("state=done", vec![]),
        ("reason=operator", vec![]),
        ("until=2020-01-01T00:00:00Z", vec![]),
        ("since=2020-01-01T00:00:00Z&connection=c1", vec!["e1"]),
    ] {
        let found = get(&service, &format!("entries?{query}")).await;
        let found: Vec<_> =
            found["entries"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }

    let parked = json!({ "entries": { "connection": "c2" }, "reason": "looked at by hand" });
    let done = act(&service, "entries/park", Some(parked)).await;
    assert_eq!(done, json!({ "changed": 1, "left": 0, "is_complete": true }));
    for query in ["state=parked", "reason=by+hand", "reason=operator"] {
        assert_eq!(get(&service, &format!("entries?{query}")).await["entries"][0]["id"], "e2", "{query}");
    }
    act(&service, "sinks/lines/resume", None).await;
    let done = act(&service, "entries/replay", Some(json!({ "entries": { "number": 2 } }))).await;
    assert_eq!(done["changed"], 1);
    service.settled().await;
    assert_eq!(fs::read_to_string(&lines).unwrap().lines().count(), 3);
    let story = get(&service, "entries/2").await;
    assert_eq!(story["state"], "done");
    let acts: Vec<_> = story["acts"].as_array().unwrap().iter().map(|act| (&act["who"], &act["what"])).collect();
    assert_eq!(acts, [(&json!("anna"), &json!("park")), (&json!("anna"), &json!("replay"))]);

    let charts = get(&service, "charts?hours=1").await;
    assert_eq!(charts["step_minutes"], 1);
    let overview = get(&service, "overview").await;
    assert_eq!((&overview["parked"], &overview["certificates"][0]["listener"]), (&json!(0), &json!("public")));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_data_is_masked_until_somebody_who_may_reveals_it() {
    let (_site, service, _) = start().await;
    let event = event_json("e1", "c1", 1, false);
    service.door.accept(event.clone()).await;
    service.settled().await;
    let masked = get(&service, "entries/1/body").await;
    let sent: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&masked["id"], &masked["resource"]["id"]), (&json!("e1"), &json!("c1")));
    assert_eq!(masked["resource"]["accounts"][0]["id"], sent["resource"]["accounts"][0]["id"]);
    let hidden = masked.to_string().matches("•••").count();
    assert!(hidden > 0, "{masked}");
    let (status, problem) = ask(&service, Method::POST, "entries/1/reveal", secrets::ADMIN, None).await;
    assert_eq!((status.as_u16(), &problem["code"]), (403, &json!("read_only")));
    assert_eq!(act(&service, "entries/1/reveal", None).await, sent);
    let acts = get(&service, "audit").await;
    assert_eq!(acts["acts"].as_array().unwrap().len(), 1, "{acts}");
    assert_eq!((&acts["acts"][0]["who"], &acts["acts"][0]["what"]), (&json!("anna"), &json!("reveal")));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_a_problem() {
    let (_site, service, _) = start().await;
    for (method, path, token, body, status, code) in [
        (Method::GET, "entries", "a-token-of-nobody", None, 401, "unauthorized"),
        (Method::POST, "sinks/lines/pause", secrets::ADMIN, None, 403, "read_only"),
        (Method::GET, "entries?stat=parked", ANNA, None, 400, "bad_request"),
        (Method::GET, "entries?state=odd", ANNA, None, 400, "bad_request"),
        (Method::GET, "entries?since=yesterday", ANNA, None, 400, "bad_request"),
        (Method::GET, "entries?limit=0", ANNA, None, 400, "bad_request"),
        (Method::GET, "entries?cursor=7", ANNA, None, 400, "bad_request"),
        (Method::GET, "charts?hours=1000", ANNA, None, 400, "bad_request"),
        (Method::GET, "happenings?lest=7", ANNA, None, 400, "bad_request"),
        (Method::GET, "entries/7/document", ANNA, None, 404, "no_entry"),
        (Method::POST, "entries/7/document/reveal", ANNA, None, 404, "no_entry"),
        (Method::POST, "sinks/other/test", ANNA, None, 404, "no_sink"),
        (Method::POST, "sinks/lines/test", secrets::ADMIN, None, 403, "read_only"),
        (Method::POST, "entries/purge", secrets::ADMIN, Some(json!({ "entries": { "all": true } })), 403, "read_only"),
        (Method::POST, "entries/purge", ANNA, Some(json!({})), 422, "everything_meant"),
        (Method::POST, "entries/export", secrets::ADMIN, Some(json!({ "entries": { "all": true } })), 403, "read_only"),
        (Method::POST, "entries/export", ANNA, Some(json!({})), 422, "everything_meant"),
        (
            Method::POST,
            "entries/export",
            ANNA,
            Some(json!({ "entries": { "all": true }, "limit": 0 })),
            400,
            "bad_request",
        ),
        (Method::POST, "erase", secrets::ADMIN, Some(json!({ "user": "u" })), 403, "read_only"),
        (Method::POST, "erase", ANNA, Some(json!({})), 400, "bad_request"),
        (Method::POST, "erase", ANNA, Some(json!({ "user": "" })), 400, "bad_request"),
        (Method::POST, "erase", ANNA, Some(json!({ "user": "u", "connection": "c" })), 400, "bad_request"),
        (Method::POST, "refused/reveal", secrets::ADMIN, None, 403, "read_only"),
        (Method::POST, "refused/reveal", ANNA, Some(json!([null, null, 1])), 400, "bad_request"),
        (Method::POST, "entries/replay", ANNA, Some(json!({ "entries": [null, "lines"] })), 400, "bad_request"),
        (
            Method::POST,
            "entries/export",
            ANNA,
            Some(json!({ "entries": { "all": true }, "limit": u64::MAX })),
            400,
            "bad_request",
        ),
        (Method::GET, "entries/7", ANNA, None, 404, "no_entry"),
        (Method::GET, "entries/seven", ANNA, None, 404, "not_found"),
        (Method::GET, "nothing", ANNA, None, 404, "not_found"),
        (Method::DELETE, "entries", ANNA, None, 405, "method_not_allowed"),
        (Method::POST, "sinks/other/pause", ANNA, None, 404, "no_sink"),
        (Method::POST, "entries/replay", ANNA, Some(json!({})), 422, "everything_meant"),
        (Method::POST, "entries/park", ANNA, Some(json!({ "entries": { "all": true } })), 400, "bad_request"),
        (Method::POST, "entries/replay", ANNA, Some(json!([])), 400, "bad_request"),
        (Method::POST, "entries/replay", ANNA, Some(json!({ "limit": 0 })), 400, "bad_request"),
    ] {
        let (found, problem) = ask(&service, method, path, token, body).await;
        assert_eq!((found.as_u16(), problem["code"].as_str()), (status, Some(code)), "{path}: {problem}");
    }
    service.stop().await;
}

/// A command that reaches the service through its listener: code, standard output, standard error.
async fn run(site: &Site, admin: &str, token: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = site.default_command(arguments);
    // There is no configuration where the command runs.
    command.env("LINXO_ADMIN", admin).env("LINXO_ADMIN_TOKEN", token).current_dir("/");
    let output = command.output().await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_through_the_listener() {
    let (site, service, lines) = start().await;
    service.door.accept(event_json("e1", "c1", 1, false)).await;
    service.settled().await;
    let admin = format!("http://{}", service.admin);
    let run = async |token: &str, arguments: &[&str]| run(&site, &admin, token, arguments).await;
    let (code, out, err) = run(secrets::ADMIN, &["inbox", "ls", "--json"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["id"], "e1");
    let local = site.run(&["inbox", "ls", "--json"]).await.stdout;
    assert_eq!(out, String::from_utf8(local).unwrap(), "the same as beside the inbox");
    let (code, out, _) = run(secrets::ADMIN, &["inbox", "show", "e1"]).await;
    assert!(code == Some(0) && out.contains("delivered, at attempt 1"), "{out}");
    let (code, out, _) = run(secrets::ADMIN, &["sink", "ls"]).await;
    assert!(code == Some(0) && out.contains("lines") && out.contains("well"), "{out}");
    let (code, out, _) = run(secrets::ADMIN, &["inbox", "stats"]).await;
    assert!(code == Some(0) && out.contains("last accepted"), "{out}");

    let (code, _, err) = run(secrets::ADMIN, &["inbox", "replay", "--seq", "1"]).await;
    assert!(code == Some(75) && err.contains("may read, and not act"), "{err}");
    let (code, _, err) = run(ANNA, &["inbox", "replay", "--seq", "1"]).await;
    assert!(code == Some(0) && err.contains("1 entry put back in line"), "{err}");
    service.settled().await;
    assert_eq!(fs::read_to_string(&lines).unwrap().lines().count(), 2);
    let (code, _, err) = run(ANNA, &["sink", "pause", "lines"]).await;
    assert!(code == Some(0) && err.contains("is paused"), "{err}");
    let (code, out, _) = run(secrets::ADMIN, &["inbox", "audit", "--json"]).await;
    assert!(code == Some(0) && out.lines().count() == 2 && out.contains("\"who\":\"anna\""), "{out}");
    let (code, _, err) = run("", &["inbox", "ls"]).await;
    assert!(code == Some(64) && err.contains("no token"), "{err}");
    service.stop().await;
}

/// What deletes and what prints bank data works through the listener as it does beside the inbox; what needs the files says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_can_works_from_afar() {
    let (site, service, lines) = start().await;
    for number in 1..=4 {
        service.door.accept(event_json(&format!("e{number}"), &number.to_string(), 1, false)).await;
    }
    assert_eq!(service.door.post("no JSON at all").await.status, 400);
    service.settled().await;
    let admin = format!("http://{}", service.admin);
    let run = async |token: &str, arguments: &[&str]| run(&site, &admin, token, arguments).await;

    for arguments in
        [&["inbox", "export"][..], &["inbox", "export", "--limit", "3"], &["inbox", "export", "--user", "u2"]]
    {
        let (code, out, err) = run(ANNA, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        let beside = site.run(arguments).await;
        assert_eq!(out, String::from_utf8(beside.stdout).unwrap(), "{arguments:?}");
        assert_eq!(err, String::from_utf8(beside.stderr).unwrap(), "{arguments:?}");
        assert!(out.contains("\"balance\":0.10"), "{arguments:?}");
    }
    let (code, out, err) = run(ANNA, &["inbox", "refused", "--body", "--json"]).await;
    assert!(code == Some(0) && serde_json::from_str::<Value>(&out).unwrap()["reason"] == "not_json", "{out} {err}");
    let (code, out, err) = run(ANNA, &["sink", "test", "lines"]).await;
    assert!(code == Some(0) && out.is_empty() && err.contains("took the test delivery"), "{err}");
    assert!(fs::read_to_string(&lines).unwrap().contains("com.linxo.connections.test"));
    let (code, _, err) = run(ANNA, &["sink", "test", "other"]).await;
    assert!(code == Some(75) && err.contains("no such thing"), "{err}");

    let (code, _, err) = run(ANNA, &["inbox", "purge", "--seq", "1", "--yes"]).await;
    assert!(code == Some(0) && err.contains("1 entry deleted"), "{err}");
    let (code, _, err) = run(ANNA, &["inbox", "erase", "--user", "u2", "--yes"]).await;
    assert!(code == Some(0) && err.contains("erased: 1 entries") && err.contains("delivered to lines"), "{err}");
    let (_, out, _) = run(secrets::ADMIN, &["inbox", "ls", "--json"]).await;
    let left: Vec<Value> = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(left, ["e4", "e3"]);

    let acts = get(&service, "audit").await;
    let acts: Vec<String> = acts["acts"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .filter(|act| act["who"] == "anna")
        .map(|act| format!("{} {} {}", act["what"].as_str().unwrap(), act["which"].as_str().unwrap(), act["entries"]))
        .collect();
    assert_eq!(
        acts,
        [
            "export  4",
            "export --limit 3 3",
            "export --user u2 1",
            "refused --body --limit 50 1",
            "sink test lines 0",
            "purge --seq 1 --limit 50 1",
            "erase --user u2 1",
        ]
    );
    for (token, arguments) in [
        (secrets::ADMIN, &["inbox", "purge", "--all", "--yes"][..]),
        (secrets::ADMIN, &["inbox", "export"]),
        (secrets::ADMIN, &["inbox", "erase", "--user", "u3", "--yes"]),
        (secrets::ADMIN, &["inbox", "refused", "--body"]),
        (secrets::ADMIN, &["sink", "test", "lines"]),
    ] {
        let (code, out, err) = run(token, arguments).await;
        assert!(code == Some(75) && out.is_empty() && err.contains("may read, and not act"), "{arguments:?}: {err}");
    }
    for (arguments, command) in [
        (&["inbox", "init"][..], "inbox init"),
        (&["inbox", "backup", "b.db"], "inbox backup"),
        (&["inbox", "restore", "b.db"], "inbox restore"),
        (&["inbox", "verify"], "inbox verify"),
        (&["inbox", "unseal", "--yes"], "inbox unseal"),
        (&["inbox", "copy", "--from", "sqlite:a.db", "--to", "postgres://b/c"], "inbox copy"),
        (&["sink", "init", "lines"], "sink init"),
    ] {
        let (code, _, err) = run(ANNA, arguments).await;
        assert!(code == Some(64) && err.contains(&format!("`{command}` does not work through --admin")), "{err}");
    }
    service.stop().await;
}

/// `tail` through the listener: what happened before, what happens now, and what happens after the service was started again.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_followed_from_afar() {
    let (mut site, service, _) = start().await;
    site.set("admin.address", text(service.admin));
    service.door.accept(event_json("e1", "1", 1, false)).await;
    service.settled().await;
    let mut command = site.default_command(&["inbox", "tail", "--json", "--state", "delivered"]);
    command.env("LINXO_ADMIN", format!("http://{}", service.admin)).env("LINXO_ADMIN_TOKEN", secrets::ADMIN);
    let mut tail =
        command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut told = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), told.next_line()).await.expect("a line comes");
        serde_json::from_str::<Value>(&line.unwrap().unwrap()).unwrap()["delivery_id"].clone()
    };
    assert_eq!(next().await, "e1");
    service.door.accept(event_json("e2", "1", 1, false)).await;
    assert_eq!(next().await, "e2");
    service.stop().await;
    let service = site.start().await;
    service.door.accept(event_json("e3", "1", 1, false)).await;
    assert_eq!(next().await, "e3");
    tail.kill().await.unwrap();
    service.stop().await;
    let (code, _, err) = run(&site, "http://127.0.0.1:1", ANNA, &["inbox", "tail"]).await;
    assert!(code == Some(75) && err.contains("cannot be asked"), "an address that nobody answers is a slip: {err}");
}

/// What the sinks are given can be looked at, masked, and revealed by an act of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_delivered_document_is_masked_until_somebody_reveals_it() {
    let (mut site, service, _) = start().await;
    service.stop().await;
    let simulator = double::Settings {
        connections: vec![connection("7", 3)],
        client_secret: base::secret::Secret::new(secrets::CLIENT.to_owned()),
        ..double::Settings::default()
    };
    let simulator = site.simulator(simulator).await;
    site.set("worker.concurrency", 0);
    let service = site.start().await;
    service.door.accept(event_json("e7", "7", 3, true)).await;
    let waiting = eventually("it is in the inbox", async || {
        let (status, answer) = ask(&service, Method::GET, "entries/1/document", secrets::ADMIN, None).await;
        (status != StatusCode::NOT_FOUND).then_some((status, answer))
    })
    .await;
    assert_eq!((waiting.0.as_u16(), &waiting.1["code"]), (409, &json!("no_document")), "{}", waiting.1);
    assert_eq!(waiting.1["detail"], "its accounts are not fetched yet");
    service.stop().await;
    site.set("worker.concurrency", 4);
    let service = site.start().await;
    service.settled().await;

    let masked = get(&service, "entries/1/document").await;
    let attributes = &masked["attributes"];
    assert_eq!((&attributes["id"], &attributes["linxocompletion"]), (&json!("e7"), &json!("api")));
    assert_eq!(attributes["linxoaccounts"], 3);
    let accounts = masked["data"]["resource"]["accounts"].as_array().unwrap();
    assert_eq!(accounts.len(), 3);
    assert!(accounts[0]["id"].is_string() && accounts[0]["balance"] == "•••", "{masked}");
    let (status, _) = ask(&service, Method::POST, "entries/1/document/reveal", secrets::ADMIN, None).await;
    assert_eq!(status, 403);
    let revealed = act(&service, "entries/1/document/reveal", None).await;
    assert!(revealed["resource"]["accounts"][0]["balance"].is_number(), "{revealed}");
    let acts = get(&service, "audit").await;
    assert_eq!((&acts["acts"][0]["what"], &acts["acts"][0]["which"]), (&json!("reveal"), &json!("--seq 1 --document")));
    let story = get(&service, "entries/1").await;
    assert_eq!(story["acts"].as_array().unwrap().len(), 1, "{story}");
    service.stop().await;
    drop(simulator);
}

/// Every receiver says that it is there, in what state, and since when.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_report_themselves_until_they_end() {
    let (site, service, _) = start().await;
    let ready = eventually("it has reported itself", async || {
        let overview = get(&service, "overview").await;
        let receivers = overview["receivers"].as_array().unwrap().clone();
        (receivers.len() == 1 && receivers[0]["state"] == "ready").then(|| receivers[0].clone())
    })
    .await;
    assert_eq!((&ready["version"], &ready["reason"]), (&json!(env!("CARGO_PKG_VERSION")), &Value::Null));
    let ghost = inbox::Receiver {
        id: "ghost".to_owned(),
        name: "pod-<b>7</b>".to_owned(),
        version: "0.9.0".to_owned(),
        since: clock::now(),
        obstacle: Some("the disk is full".to_owned()),
    };
    service.running.inbox.receivers.report(&ghost).await.unwrap();
    let told = String::from_utf8(site.run(&["inbox", "stats"]).await.stdout).unwrap();
    assert!(told.contains("pod-<b>7</b> (not ready)") && told.contains("(ready)"), "{told}");
    let (_, far, _) = run(&site, &format!("http://{}", service.admin), secrets::ADMIN, &["inbox", "stats"]).await;
    assert!(far.contains("pod-<b>7</b> (not ready)"), "{far}");
    service.stop().await;
    let left = site.inbox().receivers.receivers().await.unwrap();
    assert_eq!(left.iter().map(|view| view.receiver.id.as_str()).collect::<Vec<_>>(), ["ghost"], "who ends is gone");
}

/// The admin listener's certificate is watched as the public one is: `check` and the log say that it ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_certificate_that_ends_soon_is_told() {
    let mut site = Site::new();
    site.file_sink("lines");
    let leaf = pki::Leaf::server(&["admin.internal"]).lasting(Duration::from_hours(9 * 24 + 1));
    let [certificate, key] = ["certs/admin.pem", "certs/admin.key"].map(|name| site.path(name));
    pki::write_identity(&certificate, &key, &site.authority().issue(&leaf).unwrap()).unwrap();
    site.set("admin.tls.certificate", text(certificate.display())).set("admin.tls.key", text(key.display()));
    let checked = site.run(&["check"]).await;
    let [out, err] = [checked.stdout, checked.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(checked.status.success() && out.contains("certificate of the admin listener: "), "{out} {err}");
    assert!(out.contains("for admin.internal, valid until "), "{out}");
    assert!(err.contains("warning: admin listener: the certificate ends in 9 days: renew it"), "{err}");

    let service = site.spawn().await;
    let line = eventually("the log says it", async || {
        service.output().lines().find(|line| line.contains("certificate_ends")).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["listener"], &line["names"]), (&json!("admin"), &json!("admin.internal")));
    assert_eq!(line["message"], "admin listener: the certificate ends in 9 days: renew it");
}
