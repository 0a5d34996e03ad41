//! The table of answers, through the whole service. The finer cases are beside the code, in `src/receive/tests`.

use crate::support::{Client, Service, Site, entries, event_json, secrets};
use inbox::{Filter, State};

const PATH: &str = "/webhooks/linxo";

/// A request with these header lines.
fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

async fn receive_only() -> (Site, Service) {
    let mut site = Site::new();
    site.set("worker.concurrency", 0).set("listener.max_body", "\"64 KiB\"");
    site.file_sink("file");
    let service = site.start().await;
    (site, service)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_answered_200_and_kept() {
    let (_site, service) = receive_only().await;
    let mut client = service.door.connect().await;
    let event = event_json("1", "7", 1, false);
    let other = event_json("1", "7", 2, false);
    for (body, answer) in [
        (&event, r#"{"status":"accepted","id":"1"}"#),
        (&event, r#"{"status":"duplicate","id":"1"}"#),
        (&other, r#"{"status":"accepted","id":"1"}"#),
        (&other, r#"{"status":"duplicate","id":"1"}"#),
    ] {
        let got = client.post(body).await.unwrap();
        assert_eq!((got.status, got.body.as_str()), (200, answer));
        assert_eq!(got.header("content-type"), Some("application/json"));
    }
    let kept = entries(&service.running.inbox).await;
    assert_eq!(kept.iter().map(|entry| entry.conflict).collect::<Vec<_>>(), [false, true]);
    assert_ne!(kept[0].delivery_id, kept[1].delivery_id);
    for (entry, body) in kept.iter().zip([&event, &other]) {
        assert_eq!(service.running.inbox.desk.body(entry.seq).await.unwrap().unwrap(), body.as_bytes());
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_an_event_is_refused_and_nothing_is_kept() {
    let (_site, service) = receive_only().await;
    let (deep, large) = ("[".repeat(129), " ".repeat(64 * 1024 + 1));
    let latin = b"POST /webhooks/linxo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n\"\xe9\"".to_vec();
    let without = |member: &str| event_json("1", "7", 1, false).replace(&format!("\"{member}\":"), "\"x\":");
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let headed = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n");
    let event = event_json("1", "7", 1, false);
    let rows: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (post(PATH, "", "").into(), 400, "not_json", "it is empty at line 1 column 1"),
        (post(PATH, "", "{\"id\": \"1\",\n}").into(), 400, "not_json", "line 2 column 1"),
        (
            post(PATH, "", &format!("{event} x")).into(),
            400,
            "not_json",
            "something follows the first value at line 4 column 72",
        ),
        (post(PATH, "", &deep).into(), 400, "not_json", "line 1 column 129"),
        (latin, 400, "not_json", "line 1 column 2"),
        (post(PATH, "", "[1]").into(), 400, "not_an_object", "line 1 column 1"),
        (post(PATH, "", "{}").into(), 422, "invalid_field", "$.id is missing"),
        (post(PATH, "", &without("event_type")).into(), 422, "invalid_field", "$.event_type is missing"),
        (post(PATH, "", &without("resource_type")).into(), 422, "invalid_field", "$.resource_type is missing"),
        (post(PATH, "", &without("resource")).into(), 422, "invalid_field", "$.resource.id is missing"),
        (post(PATH, "", &event.replace("\"7\"", "[]")).into(), 422, "invalid_field", "$.resource.id must be a string"),
        (post(PATH, "", &event.replace("\"1\"", "\"\"")).into(), 422, "invalid_field", "$.id is empty"),
        (format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n\r\n").into(), 405, "method_not_allowed", ""),
        (post("/", "", &event).into(), 404, "not_found", ""),
        (post("/webhooks/linxo//", "", &event).into(), 404, "not_found", ""),
        (post("/metrics", "", &event).into(), 404, "not_found", ""),
        // (B8)
        (format!("POST {PATH} HTTP/1.1\r\ncontent-length: 0\r\n\r\n").into(), 400, "host", "one Host field"),
        (post(PATH, "host: other\r\n", &event).into(), 400, "host", "one Host field"),
        // (B4)
        (
            post(PATH, "", &event.replace("\"1\"", &format!("\"{}\"", "1".repeat(257)))).into(),
            422,
            "invalid_field",
            "$.id is longer than 256 bytes",
        ),
        (post(PATH, "content-encoding: gzip\r\n", &event).into(), 415, "content_encoding", ""),
        (headed.into(), 413, "body_too_large", "65536"),
        (chunked.into(), 413, "body_too_large", "65536"),
    ];
    for (request, status, code, detail) in rows {
        let shown = String::from_utf8_lossy(&request).chars().take(200).collect::<String>();
        let answer = service.door.exchange(&request).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        let problem = answer.problem();
        assert_eq!(problem["code"], code, "{shown}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{shown}: {problem}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"), "{shown}");
    }
    assert!(entries(&service.running.inbox).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unusual_but_an_event_is_taken() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let service = site.start().await;
    let event = |id: &str| event_json(id, id, 1, false);
    let chunked = |body: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    for request in [
        post(PATH, "", &event("1")),
        post(PATH, "content-type: application/cloudevents+json; charset=utf-8\r\n", &event("2")),
        post(PATH, "content-encoding: identity\r\n", &event("3")),
        post("/webhooks/linxo?a=b", "", &event("4")),
        chunked(&event("5")),
        post(PATH, "", &event("x").replacen("\"x\"", "6", 1)),
        post(PATH, "", &event("7").replace("UPDATED", "REMOVED")),
        post(PATH, "", &event("8").replace("1700000005", "\"yesterday\"")),
        // (B1) The content decides. (B7) One slash at the end is the same path.
        post(PATH, "content-type: text/plain\r\n", &event("10")),
        post(PATH, "content-type: text/json\r\n", &format!("\u{feff}{}", event("11"))),
        post("/webhooks/linxo/", "", &event("12")),
    ] {
        assert_eq!(service.door.exchange(&request).await.status, 200, "{request}");
    }
    let unclear = event_json("9", "9", 101, true).replace(":101,", ":\"many\",");
    service.door.accept(&unclear).await;
    assert_eq!(service.metric("linxo_webhook_schema_drift_total"), 5);
    let kept = service.settled().await;
    let parked: Vec<_> = kept.iter().filter(|entry| entry.state == State::Parked).collect();
    assert_eq!(parked.iter().map(|entry| entry.event_id.as_str()).collect::<Vec<_>>(), ["9"]);
    let reason = parked[0].stages[0].reason.as_deref().unwrap();
    assert!(reason.contains("$.resource.account_count") && reason.contains("replay"), "{reason}");
    // Drift is delivered as it came.
    let documents = crate::support::documents(&file);
    let of = |id: &str| documents.iter().find(|document| document["id"] == id).unwrap();
    assert_eq!(of("7")["type"], "com.linxo.connections.removed");
    assert_eq!(of("8")["data"]["creation_date"], "yesterday");
    assert_eq!(of("6")["data"]["id"], 6);
    assert_eq!(documents.len(), 11);
    let mut kept = kept.iter().filter(|entry| entry.event_id.as_str() == "10");
    assert_eq!(kept.next().unwrap().drift.as_deref(), Some("the Content-Type is not one of JSON"));
}

/// (B2) The same event with other white space is the same event.
#[tokio::test(flavor = "multi_thread")]
async fn white_space_between_tokens_makes_no_other_event() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let service = site.start().await;
    let event = event_json("1", "7", 1, false);
    let compact = String::from_utf8(event::compact(event.as_bytes())).unwrap();
    for (body, status) in [
        (event.clone(), "accepted"),
        (format!("{event}\n"), "duplicate"),
        (compact.clone(), "duplicate"),
        (compact.replace(',', " ,\r\n\t"), "duplicate"),
        (format!("\u{feff}{event}"), "duplicate"),
        (event.replace("\"7\"", "\"7 \""), "accepted"),
    ] {
        let answer = service.door.post(&body).await;
        assert_eq!((answer.status, answer.body), (200, format!(r#"{{"status":"{status}","id":"1"}}"#)));
    }
    service.settled().await;
    assert_eq!(crate::support::documents(&file).len(), 2);
}

/// (B3) Whatever ids the vendor gives, no two deliveries share one, and none holds a full stop.
#[tokio::test(flavor = "multi_thread")]
async fn delivery_ids_are_distinct_whatever_ids_come() {
    let mut site = Site::new();
    let file = site.file_sink("file");
    let service = site.start().await;
    service.door.accept(event_json("abc", "7", 1, false)).await;
    service.door.accept(event_json("abc", "7", 2, false)).await;
    let second = service.settled().await[1].delivery_id.as_str().to_owned();
    assert!(second.starts_with("abc~"), "{second}");
    for id in [second.as_str(), "a.b", "a~pb", "a~b", &second.replace('~', ".")] {
        service.door.accept(event_json(id, "7", 1, false)).await;
    }
    service.settled().await;
    let ids = crate::support::delivered(&file);
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (7, 7), "{ids:?}");
    assert!(ids.iter().all(|id| !id.contains('.')), "{ids:?}");
}

/// (B4) An event of a user whose id nobody can keep is stored, and says why it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_id_too_long_is_stored_and_parked() {
    let mut site = Site::new();
    site.file_sink("file");
    let service = site.start().await;
    let event = event_json("1", "7", 1, false).replace("\"u7\"", &format!("\"{}\"", "u".repeat(257)));
    service.door.accept(&event).await;
    let kept = service.settled().await;
    assert_eq!((kept[0].state, &kept[0].user), (State::Parked, &None));
    let reason = kept[0].stages[0].reason.as_deref().unwrap();
    assert!(reason.contains("$.resource.user_id is longer than 256 bytes"), "{reason}");
    assert_eq!(service.running.inbox.desk.body(kept[0].seq).await.unwrap().unwrap(), event.as_bytes());
}

/// (C11, C13) Bank data must not end up where anybody reads it: not in an old file, and not in a core.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_core() {
    let mut site = Site::new();
    site.file_sink("file");
    let process = site.spawn().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{cores}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_secret_is_any_unknown_path() {
    let mut site = Site::new();
    site.file_sink("file");
    site.secret("sender.path_secret", secrets::PATH);
    let service = site.start().await;
    let event = event_json("1", "7", 1, false);
    let path = format!("{PATH}/{}", secrets::PATH);
    for wrong in [PATH.to_owned(), format!("{PATH}/wrong"), format!("{path}//"), format!("/{}", secrets::PATH)] {
        let answer = service.door.exchange(post(&wrong, "", &event)).await;
        assert_eq!((answer.status, &answer.problem()["code"]), (404, &"not_found".into()), "{wrong}");
        assert!(!answer.body.contains(secrets::PATH));
    }
    for right in [path.clone(), format!("{path}/")] {
        assert_eq!(service.door.exchange(post(&right, "", &event)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_a_largest_size_and_all_parts_a_longest_time() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("listener.header_timeout", "\"200ms\"").set("listener.body_timeout", "\"200ms\"");
    let service = site.start().await;
    let too_large = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nx-fill: {}\r\n\r\n", "a".repeat(70_000));
    assert_eq!(service.door.exchange(too_large).await.status, 431);
    for part in [format!("POST {PATH} HTTP/1.1\r\nhost:"), post(PATH, "", "{}").replace("{}", "{")] {
        let answer = service.door.exchange(part).await;
        assert_eq!(answer.status, 408);
        assert!(answer.problem()["code"].as_str().unwrap().ends_with("_timeout"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_trouble_is_503_with_retry_after() {
    let mut site = Site::new();
    site.file_sink("file");
    site.set("worker.concurrency", 0).set("inbox.max_waiting", 2);
    let service = site.start().await;
    let mut client = service.door.connect().await;
    for (id, code) in [("1", None), ("2", None), ("3", Some("backlog"))] {
        refused(&mut client, id, code).await;
    }
    // A repeat would be refused too; but what was taken before is still there.
    assert_eq!(entries(&service.running.inbox).await.len(), 2);
    service.stop().await;

    site.set("inbox.min_free_disk", "\"100 TiB\"").set("inbox.max_waiting", 100);
    let service = site.start().await;
    refused(&mut service.door.connect().await, "4", Some("store_full")).await;
    let ready = crate::support::admin(service.admin, "/readyz", None).await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("disk is full"), "{}", ready.body);
    let all = service.running.inbox.desk.list(&Filter::default(), 10).await.unwrap();
    assert_eq!(all.len(), 2);
}

/// Posts an event and looks whether it is accepted, or refused for the reason given.
async fn refused(client: &mut Client, id: &str, code: Option<&str>) {
    let answer = client.post(event_json(id, id, 1, false)).await.unwrap();
    match code {
        None => assert_eq!(answer.status, 200, "{}", answer.body),
        Some(code) => {
            assert!(answer.is_our_trouble(), "{answer:?}");
            assert_eq!(answer.problem()["code"], code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_the_right_certificate_get_an_alert_and_no_answer() {
    let mut site = Site::new();
    site.file_sink("file");
    let authority = site.path("certs/authority.pem").display().to_string();
    site.set("tls.clients.mode", "\"required\"").set("tls.clients.authorities", format!("[{authority:?}]"));
    let service = site.start().await;
    // With TLS 1.3 the alert comes after the client's side of the handshake.
    if let Ok(mut client) = service.door.try_connect().await {
        let mut answer = client.send(post(PATH, "", "{}")).await;
        if answer.is_ok() {
            answer = client.answer().await.map(drop);
        }
        let error = answer.unwrap_err();
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
    }
    service.metric_reaches(r#"linxo_webhook_tls_handshakes_total{outcome="failed"}"#, 1).await;
    assert_eq!(service.metric(r#"linxo_webhook_tls_handshakes_total{outcome="ok"}"#), 0);
}
