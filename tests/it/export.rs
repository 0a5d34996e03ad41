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
