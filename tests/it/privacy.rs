//! `docs/privacy.md` through the true program: a sealed inbox, a person's request for their data, their erasure.

use crate::support::{Site, event_json, eventually};
use std::{fs, path::Path, process::Output};

/// As `openssl rand -hex 32` prints it.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const IBAN: &str = "FR7630006000011234567890189";

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether a text is in any file of the inbox: the file, its log, the journal, the keys.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if fs::read(&path).unwrap_or_default().windows(text.len()).any(|window| window == text.as_bytes()) {
            return true;
        }
    }
    false
}

fn with_iban(id: &str, connection: &str) -> String {
    event_json(id, connection, 1, false).replacen("{\"id\"", &format!("{{\"iban\":\"{IBAN}\",\"id\""), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_everything_and_erased_beside_the_service() {
    let mut site = Site::new();
    site.file_sink("app");
    site.secret("inbox.key", KEY);
    site.set("worker.concurrency", 0);
    let data = site.config().inbox.keys_file().parent().unwrap().to_owned();
    let process = site.spawn().await;
    for (id, connection) in [("e1", "1"), ("e2", "1"), ("e3", "2")] {
        process.door.accept(with_iban(id, connection)).await;
    }
    let listed = site.run(&["inbox", "ls", "--json"]).await;
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 3);
    assert!(!is_on_disk(&data, IBAN));
    let told = String::from_utf8(site.run(&["inbox", "export", "--user", "u1"]).await.stdout).unwrap();
    let lines: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines.iter().all(|line| line["kind"] == "entry" && line["event"].to_string().contains(IBAN)), "{told}");

    let backup = site.path("early.db").display().to_string();
    let made = site.run(&["inbox", "backup", &backup]).await;
    assert!(made.status.success() && said(&made).contains("its keys are not in it"), "{}", said(&made));
    let unsure = site.run(&["inbox", "erase", "--user", "u1"]).await;
    assert_eq!(unsure.status.code(), Some(64), "{}", said(&unsure));
    let erase = ["inbox", "erase", "--user", "u1", "--yes"];
    let erased = site.run(&erase).await;
    assert!(erased.status.success(), "{}", said(&erased));
    for part in ["erased: 2 entries", "1 keys", "not reached: what was delivered to app", "cannot be read any more"] {
        assert!(said(&erased).contains(part), "{part}: {}", said(&erased));
    }
    let again = site.run(&erase).await;
    assert!(again.status.success() && said(&again).contains("erased: 0 entries"), "{}", said(&again));
    let audit = String::from_utf8(site.run(&["inbox", "audit"]).await.stdout).unwrap();
    assert!(audit.contains("erase") && audit.contains("--user u1"), "{audit}");
    process.kill().await;

    // The backup from before, with the keys that know of the erasure.
    let restored = site.run(&["inbox", "restore", &backup]).await;
    assert!(restored.status.success(), "{}", said(&restored));
    let listed = String::from_utf8(site.run(&["inbox", "ls", "--json"]).await.stdout).unwrap();
    assert!(listed.lines().count() == 1 && listed.contains("\"user_id\":\"u2\""), "{listed}");
    // Without a service too.
    let erased = site.run(&["inbox", "erase", "--connection", "2", "--yes"]).await;
    assert!(erased.status.success() && said(&erased).contains("erased: 1 entries"), "{}", said(&erased));
    assert!(said(&erased).contains("which a restore set aside"), "{}", said(&erased));
}

/// What `check` says of the key is what `serve` does.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_recommended_and_one_that_does_not_fit_ends_with_78() {
    let mut site = Site::new();
    site.file_sink("app");
    let checked = site.run(&["check"]).await;
    assert!(checked.status.success() && said(&checked).contains("note: inbox.key is not set"), "{}", said(&checked));
    let service = site.start().await;
    service.door.accept(with_iban("e1", "1")).await;
    service.stop().await;
    let data = site.config().inbox.keys_file().parent().unwrap().to_owned();
    assert!(is_on_disk(&data, IBAN), "the search finds what is there");

    site.secret("inbox.key", KEY);
    let checked = site.run(&["check"]).await;
    assert!(
        checked.status.success() && said(&checked).contains("note: the next start seals the inbox"),
        "{}",
        said(&checked)
    );
    let mut process = site.spawn().await;
    eventually("what was there before is sealed", async || process.output().contains("sealing_done").then_some(()))
        .await;
    assert!(!is_on_disk(&data, IBAN));
    assert!(process.is_alive());
    process.kill().await;

    let right = site.config().inbox.key;
    for (wrong, told) in
        [(None, "inbox.key is not set"), (Some("a".repeat(64)), "is not the key that it is sealed with")]
    {
        match wrong {
            None => site.unset("inbox.key"),
            Some(wrong) => site.secret("inbox.key", &wrong),
        };
        for command in ["check", "serve"] {
            let ended = site.run(&[command]).await;
            assert_eq!(ended.status.code(), Some(78), "{command}: {}", said(&ended));
            assert!(said(&ended).contains(told), "{command}: {}", said(&ended));
        }
    }
    site.secret("inbox.key", right[0].expose());
    let unsealed = site.run(&["inbox", "unseal", "--yes"]).await;
    assert!(unsealed.status.success() && said(&unsealed).contains("take inbox.key out"), "{}", said(&unsealed));
    assert!(is_on_disk(&data, IBAN));
}
