//! What operators reach through the admin listener: the API, and commands that use it from afar.

use crate::support::{Service, Site, event_json, eventually, secrets, text};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

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
    assert_eq!((found["entries"].as_array().unwrap().len(), &found["next"]), (2, &json!(2)));
    let rest = get(&service, "entries?limit=2&cursor=2").await;
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
        (Method::GET, "charts?hours=1000", ANNA, None, 400, "bad_request"),
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

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_through_the_listener() {
    let (site, service, lines) = start().await;
    service.door.accept(event_json("e1", "c1", 1, false)).await;
    service.settled().await;
    let admin = format!("http://{}", service.admin);
    let run = async |token: &str, arguments: &[&str]| {
        let mut command = site.default_command(arguments);
        // There is no configuration where the command runs.
        command.env("LINXO_ADMIN", &admin).env("LINXO_ADMIN_TOKEN", token).current_dir("/");
        let output = command.output().await.unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
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
    let (code, _, err) = run(ANNA, &["inbox", "purge", "--all", "--yes"]).await;
    assert!(code == Some(64) && err.contains("not through --admin"), "{err}");
    let (code, _, err) = run("", &["inbox", "ls"]).await;
    assert!(code == Some(64) && err.contains("no token"), "{err}");
    service.stop().await;
}
