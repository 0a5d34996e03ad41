//! `inbox export` and `inbox ls`: what a person's request for their data rests on is never cut without a word.

use crate::support::{Site, event_json};
use std::path::{Path, PathBuf};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_whole_and_a_list_that_is_cut_says_so() {
    let mut site = Site::new();
    site.file_sink("app");
    let service = site.start().await;
    for number in 0..60 {
        service.door.accept(event_json(&format!("e{number}"), &number.to_string(), 1, false)).await;
    }
    service.settled().await;
    for (arguments, lines, is_cut) in [
        (&["inbox", "export"][..], 60, false),
        (&["inbox", "export", "--user", "u7"], 1, false),
        (&["inbox", "export", "--limit", "10"], 10, true),
        (&["inbox", "ls", "--json"], 50, true),
        (&["inbox", "ls", "--json", "--all"], 60, false),
        (&["inbox", "ls", "--json", "--limit", "61"], 60, false),
    ] {
        let output = site.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), lines, "{arguments:?}");
        assert_eq!(said.contains("there may be more"), is_cut, "{arguments:?}: {said}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_says_what_it_left() {
    let mut site = Site::new();
    site.file_sink("app");
    site.set("worker.concurrency", "0");
    let service = site.start().await;
    service.door.accept(event_json("e1", "1", 1, false)).await;
    let purge = &["inbox", "purge", "--user", "u1", "--yes"][..];
    let output = site.run(purge).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("0 entries deleted") && said.contains("1 matching entry is unfinished"), "{said}");
    assert!(site.run(&["inbox", "park", "--user", "u1"]).await.status.success());
    assert!(site.run(purge).await.status.success());
    service.stop().await;
}

/// (D9) What operators change, and what they print of bodies, is noted with time and user.
#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_noted() {
    let mut site = Site::new();
    site.file_sink("app");
    let service = site.start().await;
    service.door.accept(event_json("e1", "1", 1, false)).await;
    service.settled().await;
    for arguments in [
        &["inbox", "ls"][..],
        &["inbox", "show", "e1"],
        &["inbox", "show", "e1", "--body"],
        &["inbox", "replay", "--user", "u1", "--sink", "app"],
        &["inbox", "export", "--all"],
        &["sink", "pause", "app"],
        &["sink", "resume", "app"],
        &["inbox", "park", "--user", "u9"],
        &["inbox", "purge", "--user", "u9", "--yes"],
    ] {
        let mut command = site.command(arguments);
        let output = command.env_remove("SUDO_USER").env("USER", "ann").output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let listed = String::from_utf8(site.run(&["inbox", "audit", "--json"]).await.stdout).unwrap();
    let acts: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> =
        acts.iter().rev().map(|act| format!("{} {} {}", act["what"], act["which"], act["entries"])).collect();
    assert_eq!(
        told,
        [
            r#""show --body" "e1" 1"#,
            r#""replay" "--sink app --user u1" 1"#,
            r#""export" "--all" 1"#,
            r#""sink pause" "app" 0"#,
            r#""sink resume" "app" 0"#,
            r#""park" "--user u9 --reason \"parked by an operator\"" 0"#,
            r#""purge" "--user u9" 0"#,
        ]
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(acts.iter().all(|act| act["who"] == format!("ann (uid {uid})").as_str()));
    let table = String::from_utf8(site.run(&["inbox", "audit"]).await.stdout).unwrap();
    assert!(table.starts_with("NUMBER") && table.lines().count() == 8, "{table}");
    service.stop().await;
}

/// How events are deleted.
#[derive(Clone, Copy, Debug)]
enum Deletion {
    All,
    OneUser,
    Retention,
}

/// Files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes())) {
            found.push(path);
        }
    }
    found
}

/// (D3) Of 3,600 IBANs none is left in a file of the inbox, its log and its journal after `purge --all` and after retention, and
/// after `purge --user` none of that user's 60: beside the running service and after its clean end.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_gone_from_every_file() {
    const USERS: u64 = 60;
    // All begin so; what follows tells them apart.
    const IBAN: &str = "FR76300060000112345678";
    for deletion in [Deletion::All, Deletion::OneUser, Deletion::Retention] {
        let mut site = Site::new();
        site.file_sink("app");
        let service = site.start().await;
        for user in 0..USERS {
            let mut number = 0;
            let body = event_json(&format!("e{user}"), &user.to_string(), 60, false);
            let parts: Vec<String> = body.split(r#""balance""#).map(str::to_owned).collect();
            let body = parts.into_iter().reduce(|before, part| {
                number += 1;
                format!(r#"{before}"iban":"{IBAN}{user:02}{number:03}","balance"{part}"#)
            });
            service.door.accept(body.unwrap()).await;
        }
        service.settled().await;
        let data = site.path("data");
        assert!(!holding(&data, &format!("{IBAN}07")).is_empty(), "they are found where they are");
        let mut gone = IBAN.to_owned();
        match deletion {
            Deletion::All => {
                let output = site.run(&["inbox", "purge", "--all", "--yes"]).await;
                assert!(output.status.success(), "{output:?}");
            }
            Deletion::OneUser => {
                gone.push_str("07");
                let output = site.run(&["inbox", "purge", "--user", "u7", "--yes"]).await;
                assert!(output.status.success(), "{output:?}");
            }
            // As the service does from time to time.
            Deletion::Retention => {
                let upkeep = &service.running.inbox.upkeep;
                let later = base::clock::now().after(std::time::Duration::from_secs(1));
                assert_eq!(upkeep.expire(later, 1000).await.unwrap().deleted, USERS);
                upkeep.fold_log().await.unwrap();
            }
        }
        assert_eq!(holding(&data, &gone), [""; 0].map(PathBuf::from), "{deletion:?}, beside the running service");
        service.stop().await;
        assert_eq!(holding(&data, &gone), [""; 0].map(PathBuf::from), "{deletion:?}, after a clean end");
    }
}
