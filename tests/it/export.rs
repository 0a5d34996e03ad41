//! `inbox export` and `inbox ls`: what a person's request for their data rests on is never cut without a word.

use crate::support::{Site, event_json};

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
