//! The service on an inbox in PostgreSQL: how it starts, what it answers while the server is away, and what its commands say.

use crate::support::{Promises, Service, Site, admin, delivered, event_json, eventually, mount::Mount, text};
use double::servers::{Options, Postgres};
use rustix::process::Signal;
use std::path::PathBuf;

/// A server without an inbox, and a site that is to have its inbox there.
fn site() -> (Postgres, Site, PathBuf) {
    let server = Postgres::start(&Options::default()).unwrap();
    let mut site = Site::new();
    let folder = site.path("data").display().to_string();
    site.set("inbox.url", text(server.url())).set("inbox.folder", text(folder));
    let sink = site.file_sink("lines");
    (server, site, sink)
}

fn event(id: &str) -> String {
    event_json(id, "7", 1, false)
}

async fn is_ready(service: &Service) -> bool {
    admin(service.admin, "/readyz", None).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_makes_no_tables_and_init_makes_them() {
    let (server, site, sink) = site();
    let output = site.run(&["serve"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && told.contains("inbox init"), "{told}");
    let checked = site.run(&["check", "--online"]).await;
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && told.contains("inbox init"), "{told}");

    for words in ["made the inbox", "is there already"] {
        let output = site.run(&["inbox", "init"]).await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.contains(words), "{told}");
    }
    let checked = site.run(&["check", "--online"]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let service = site.start().await;
    service.door.accept(event("e1")).await;
    eventually("it is delivered", async || (delivered(&sink) == ["e1"]).then_some(())).await;
    let listed = site.run(&["inbox", "ls", "--json"]).await;
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"e1\""));
    // What no erasure reaches is named, and is no reason to run the command again.
    let erased = site.run(&["inbox", "erase", "--connection", "7", "--yes"]).await;
    let told = String::from_utf8_lossy(&erased.stderr).into_owned();
    assert!(erased.status.success() && told.contains("erased: 1 entries"), "{told}");
    assert!(told.contains("not reached: the log of PostgreSQL"), "{told}");
    service.stop().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_without_its_server_answers_503_until_it_is_there() {
    let (mut server, site, sink) = site();
    assert!(site.run(&["inbox", "init"]).await.status.success());
    server.stop();
    let service = site.start().await;
    let answer = service.door.post(event("e1")).await;
    assert!(answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
    assert!(!is_ready(&service).await);
    assert_eq!(service.metric("linxo_webhook_inbox_foreign"), 0);
    server.restart().unwrap();
    eventually("it is ready", async || is_ready(&service).await.then_some(())).await;
    service.door.accept(event("e2")).await;
    eventually("it is delivered", async || (delivered(&sink) == ["e2"]).then_some(())).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_journal_no_event_is_refused_while_the_server_is_away() {
    let (mut server, mut site, sink) = site();
    let journal = site.path("journal").display().to_string();
    site.set("inbox.journal", text(journal));
    assert!(site.run(&["inbox", "init"]).await.status.success());
    let service = site.start().await;
    service.door.accept(event("e0")).await;
    eventually("it is delivered", async || (delivered(&sink) == ["e0"]).then_some(())).await;
    server.kill();
    for n in 1..=20 {
        service.door.accept(event(&format!("e{n}"))).await;
    }
    assert!(is_ready(&service).await, "an event would get its 2xx");
    service.metric_reaches("linxo_webhook_inbox_unfolded", 20).await;
    service.metric_reaches("linxo_webhook_inbox_away", 1).await;
    server.restart().unwrap();
    let wanted: Vec<String> = (0..=20).map(|n| format!("e{n}")).collect();
    eventually("everything is delivered in order", async || (delivered(&sink) == wanted).then_some(())).await;
    service.stop().await;
}

/// What `check --online` passes, a receiver can use: tables of its version, with every right on them.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_be_used_are_refused_before_an_event_comes() {
    let (server, mut site, _) = site();
    assert!(site.run(&["inbox", "init"]).await.status.success());
    let refused = async |site: &Site, reason: &str| {
        for arguments in [&["check", "--online"][..], &["serve"]] {
            let output = site.run(arguments).await;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && told.contains(reason), "{arguments:?}: no {reason} in {told}");
        }
    };
    server.sql("UPDATE linxo_webhook.meta SET number = 99 WHERE name IN ('version', 'readable_from')").unwrap();
    refused(&site, "its tables are of version 99").await;
    server.sql("UPDATE linxo_webhook.meta SET number = 5 WHERE name = 'version'").unwrap();
    server.sql("UPDATE linxo_webhook.meta SET number = 1 WHERE name = 'readable_from'").unwrap();
    assert!(site.run(&["check", "--online"]).await.status.success());
    server
        .sql(
            "CREATE ROLE weak LOGIN; GRANT USAGE ON SCHEMA linxo_webhook TO weak;
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA linxo_webhook TO weak;
             REVOKE INSERT ON linxo_webhook.entry FROM weak; REVOKE UPDATE ON linxo_webhook.stage FROM weak",
        )
        .unwrap();
    site.set("inbox.url", text(server.url().replace("//postgres@", "//weak@")));
    refused(&site, "grant it SELECT, INSERT, UPDATE and DELETE on entry, stage").await;
}

/// Who waits for a server that stands still, in the work loops or beside them, does not keep the service from ending.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_ends_in_time_although_its_server_stands_still() {
    let (server, mut site, sink) = site();
    site.set("listener.drain_timeout", text("1s"));
    assert!(site.run(&["inbox", "init"]).await.status.success());
    let process = site.spawn().await;
    let promises = Promises::default();
    assert!(promises.post(&process.door, "e1").await);
    eventually("it is delivered", async || (delivered(&sink).len() == 1).then_some(())).await;
    server.freeze();
    let refused = process.door.post(event("e2")).await;
    assert_eq!(refused.status, 503);
    let told = std::time::Instant::now();
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    server.thaw();
    assert!(status.code() == Some(0) && log.contains("drained"), "{log}");
    assert!(told.elapsed() < std::time::Duration::from_secs(15), "{:?}: {log}", told.elapsed());
}

/// The disk under the bodies has no room: that is said as such, and events are taken again when it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_server_is_answered_503_and_loses_nothing() {
    let (server, site, sink) = site();
    assert!(site.run(&["inbox", "init"]).await.status.success());
    // Outside of the site, whose folder is for its owner alone.
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    let _mount = match Mount::memory(&small, 4 << 20) {
        Ok(mount) => mount,
        Err(why) => return eprintln!("not tried, because nothing can be mounted here: {why}"),
    };
    server.give(folder.path()).unwrap();
    server.give(&small).unwrap();
    server.sql(&format!("CREATE TABLESPACE small LOCATION '{}'", small.display())).unwrap();
    server.sql("ALTER TABLE linxo_webhook.body SET TABLESPACE small").unwrap();
    let service = site.start().await;
    let mut taken = Vec::new();
    let refused = loop {
        let id = format!("e{}", taken.len());
        let answer = service.door.post(event_json(&id, "7", 2_000, false)).await;
        if answer.status != 200 {
            break answer;
        }
        taken.push(id);
        assert!(taken.len() < 1_000, "the disk was never full");
    };
    assert!(refused.is_our_trouble() && refused.problem()["code"] == "store_full", "{refused:?}");
    server.sql("ALTER TABLE linxo_webhook.body SET TABLESPACE pg_default").unwrap();
    eventually("events are taken again", async || (service.door.post(event("last")).await.status == 200).then_some(()))
        .await;
    taken.push("last".to_owned());
    eventually("what was answered is delivered", async || (delivered(&sink) == taken).then_some(())).await;
    service.stop().await;
}
