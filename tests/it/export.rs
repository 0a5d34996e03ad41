//! `inbox export` and `inbox ls`: what a person's request for their data rests on is never cut without a word.

use crate::support::{Site, event_json};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

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
    EachUser,
    Retention,
}

/// Files below a folder that hold one of these texts. Another process looks: a process that closes a file loses its locks on it, also those
/// that SQLite holds, and then the next command would take the inbox for unused and remove its log.
fn holding(folder: &Path, texts: &[String]) -> Vec<PathBuf> {
    let texts = texts.iter().flat_map(|text| ["-e", text]);
    let found = Command::new("grep").arg("-rlaF").args(texts).arg(folder).output().unwrap();
    assert!(found.status.code().is_some_and(|code| code <= 1), "{found:?}");
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// (D3) Of 1,180 IBANs none is left in a file of the inbox, its log and its journal after `purge --all`, after `purge --user` for one
/// user after the other, and after retention in several rounds: beside the running service, after each single command or round,
/// and after its clean end.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_gone_from_every_file() {
    const USERS: u64 = 60;
    // All begin so; what follows tells them apart.
    const IBAN: &str = "FR76300060000112345678";
    let of = |users: Range<u64>| users.map(|user| format!("{IBAN}{user:02}")).collect::<Vec<_>>();
    for deletion in [Deletion::All, Deletion::EachUser, Deletion::Retention] {
        let mut site = Site::new();
        site.file_sink("app");
        let service = site.start().await;
        for user in 0..USERS {
            let mut number = 0;
            // Of many sizes, so that rows move from page to page when others are deleted.
            let accounts = usize::try_from(1 + user * user * 28 % 30).unwrap();
            let body = event_json(&format!("e{user}"), &user.to_string(), accounts, false);
            let parts: Vec<String> = body.split(r#""balance""#).map(str::to_owned).collect();
            let body = parts.into_iter().reduce(|before, part| {
                number += 1;
                format!(r#"{before}"iban":"{IBAN}{user:02}{number:03}","balance"{part}"#)
            });
            service.door.accept(body.unwrap()).await;
        }
        service.settled().await;
        let data = site.path("data");
        assert!(!holding(&data, &of(7..8)).is_empty(), "they are found where they are");
        match deletion {
            Deletion::All => {
                let output = site.run(&["inbox", "purge", "--all", "--yes"]).await;
                assert!(output.status.success(), "{output:?}");
            }
            Deletion::EachUser => {
                let mut purged = Vec::new();
                for user in (0..USERS).map(|user| user * 13 % USERS) {
                    let output = site.run(&["inbox", "purge", "--user", &format!("u{user}"), "--yes"]).await;
                    assert!(output.status.success(), "{output:?}");
                    assert!(!String::from_utf8_lossy(&output.stderr).contains("may still"), "{output:?}");
                    purged.extend(of(user..user + 1));
                    assert_eq!(
                        holding(&data, &purged),
                        [""; 0].map(PathBuf::from),
                        "user {user}, beside the running service"
                    );
                }
            }
            // As the service does from time to time.
            Deletion::Retention => {
                let upkeep = &service.running.inbox.upkeep;
                let later = base::clock::now().after(std::time::Duration::from_secs(1));
                for round in 1..=USERS / 5 {
                    assert_eq!(upkeep.expire(later, 5).await.unwrap().deleted, 5);
                    upkeep.fold_log().await.unwrap();
                    assert_eq!(holding(&data, &of(0..round * 5)), [""; 0].map(PathBuf::from), "round {round}");
                }
            }
        }
        assert_eq!(
            holding(&data, &of(0..USERS)),
            [""; 0].map(PathBuf::from),
            "{deletion:?}, beside the running service"
        );
        service.stop().await;
        assert_eq!(holding(&data, &of(0..USERS)), [""; 0].map(PathBuf::from), "{deletion:?}, after a clean end");
    }
}
