//! The drill of `docs/operations.md`: a backup beside a running service, restored somewhere else.

use crate::support::{Site, entries, event_json};
use std::process::Output;

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// (D7) The commands as an operator types them.
#[tokio::test(flavor = "multi_thread")]
async fn the_drill_of_the_documents_works() {
    let mut site = Site::new();
    site.file_sink("app");
    let process = site.spawn().await;
    for number in 0..30 {
        process.door.accept(event_json(&format!("e{number}"), &number.to_string(), 1, false)).await;
    }
    let backup = site.path("drill.db").display().to_string();
    let made = site.run(&["inbox", "backup", &backup]).await;
    assert!(made.status.success() && said(&made).contains("30 entries"), "{made:?}");
    let again = site.run(&["inbox", "backup", &backup]).await;
    assert!(again.status.code() == Some(75) && said(&again).contains("it is there already"), "{again:?}");
    let running = site.run(&["inbox", "restore", &backup]).await;
    assert!(running.status.code() == Some(75) && said(&running).contains("stop that one first"), "{running:?}");
    let audited = site.run(&["inbox", "audit"]).await;
    assert!(String::from_utf8(audited.stdout).unwrap().contains(&backup));

    let mut other = Site::new();
    other.file_sink("app");
    other.set("worker.concurrency", 0);
    let restored = other.run(&["inbox", "restore", &backup]).await;
    assert!(restored.status.success() && said(&restored).contains("with 30 entries"), "{restored:?}");
    let verified = other.run(&["inbox", "verify"]).await;
    assert!(verified.status.success() && said(&verified).contains("30 entries compared"), "{verified:?}");
    let service = other.start().await;
    assert_eq!(entries(&service.running.inbox).await.len(), 30);
    service.door.accept(event_json("new", "0", 1, false)).await;
    service.stop().await;

    // Back where it came from, after the service has ended.
    process.kill().await;
    let restored = site.run(&["inbox", "restore", &backup]).await;
    assert!(restored.status.success() && said(&restored).contains("set aside: "), "{restored:?}");
    let verified = site.run(&["inbox", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}
