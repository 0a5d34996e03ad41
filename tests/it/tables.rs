//! A sink on a PostgreSQL of the test's own, through the whole service and the true program.

use crate::support::{Site, event_json, eventually, settled};
use double::servers::{Options, Postgres};
use inbox::State;
use std::fs;

const PASSWORD: &str = "first-canary";

fn site(server: &Postgres) -> Site {
    let mut site = Site::new();
    let file = site.path("database-password");
    fs::write(&file, PASSWORD).unwrap();
    site.sink(format!(
        "name = \"table\"\ntype = \"postgres\"\nurl = \"{}\"\npassword = {{ file = \"{}\" }}\naccounts = true\ntimeout = \"5s\"",
        server.url(),
        file.display()
    ));
    site
}

/// Tables are made on request alone; until then deliveries wait, and each command says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_on_request_and_then_filled() {
    let server = Postgres::start(&Options { password: Some(PASSWORD), ..Options::default() }).unwrap();
    let site = site(&server);
    let run = async |arguments: &[&str]| {
        let output = site.run(arguments).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, said) = (text(output.stdout), text(output.stderr));
        assert!(!said.contains("canary") && !out.contains("canary"), "{out}{said}");
        (output.status.code().unwrap(), out, said)
    };
    let remedy = "`linxo-webhook sink init` makes it";
    let (code, _, said) = run(&["sink", "test", "table"]).await;
    assert!(code == 75 && said.contains(remedy), "{said}");
    let (_, _, said) = run(&["check", "--online"]).await;
    assert!(said.contains("\"public\".\"linxo_event\" is missing") && said.contains(remedy), "{said}");
    let (code, statements, _) = run(&["sink", "init", "table", "--print"]).await;
    assert!(
        code == 0 && statements.contains("CREATE TABLE IF NOT EXISTS \"public\".\"linxo_account\""),
        "{statements}"
    );
    assert_eq!(server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").unwrap(), "0");

    let service = site.start().await;
    service.door.accept(event_json("early", "c1", 2, false)).await;
    eventually("the delivery was tried", async || {
        let entries = crate::support::entries(&service.running.inbox).await;
        entries.iter().any(|entry| entry.state == State::Waiting && entry.stages[0].attempts > 0).then_some(())
    })
    .await;
    let (code, _, said) = run(&["sink", "init", "table"]).await;
    assert!(code == 0 && said.contains("the sink table has what it needs"), "{said}");
    for (id, connection) in [("e2", "c1"), ("e3", "c2")] {
        service.door.accept(event_json(id, connection, 2, false)).await;
    }
    for entry in settled(&service.running.inbox).await {
        assert_eq!(entry.state, State::Done, "{entry:?}");
    }
    let stored = server.sql("SELECT id FROM linxo_event ORDER BY id").unwrap();
    assert_eq!(stored.lines().collect::<Vec<_>>(), ["e2", "e3", "early"]);
    let accounts = server.sql("SELECT count(*) FROM linxo_account WHERE listed").unwrap();
    assert_eq!(accounts, "4");
    let (code, _, said) = run(&["sink", "test", "table"]).await;
    assert!(code == 0 && said.contains("took the test delivery"), "{said}");
    let (code, _, said) = run(&["sink", "init", "nope"]).await;
    assert!(code == 64 && said.contains("configured are table"), "{said}");

    // Another password is used by new connections as soon as its file has it.
    server.sql("ALTER USER postgres PASSWORD 'second-canary'").unwrap();
    fs::write(site.path("database-password"), "second-canary").unwrap();
    service.running.reload().await;
    service.door.accept(event_json("e4", "c1", 2, false)).await;
    for entry in settled(&service.running.inbox).await {
        assert_eq!(entry.state, State::Done, "{entry:?}");
    }
    service.stop().await;
}
