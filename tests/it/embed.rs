//! The service inside another program: the sink of `examples/embed.rs`.

use crate::support::{Site, event_json, settled};
use inbox::State;
use linxo_webhook::embed::{self, Ended, Own};

#[path = "../../examples/embed.rs"]
#[expect(dead_code, reason = "the example's `main` is run by hand")]
mod example;

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_of_the_programs_own_gets_every_event() {
    let mut site = Site::new();
    site.sink("name = \"tally\"\ntype = \"own\"");
    let file = site.file_sink("file");
    let tally = example::Tally::default();
    let mut running = embed::start(site.config(), Own::default().with("tally", tally.clone())).await.unwrap();
    let door = site.door(running.address);
    for (id, connection, accounts) in [("e1", "a", 2), ("e2", "b", 3), ("e3", "a", 4)] {
        door.accept(event_json(id, connection, accounts, false)).await;
    }
    for entry in settled(&running.inbox).await {
        assert_eq!(entry.state, State::Done, "{entry:?}");
    }
    assert_eq!((tally.accounts(), crate::support::delivered(&file).len()), (7, 3));
    running.drain();
    assert_eq!(running.ended().await, Ended::Drained);
}

/// Who brings no sink of that name is told so, and nothing is accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_nobody_brings_is_refused() {
    let mut site = Site::new();
    site.sink("name = \"tally\"\ntype = \"own\"");
    let error = embed::start(site.config(), Own::default()).await.err().unwrap();
    assert!(base::error::chain(&error).contains("this program brings no sink of its own"), "{error}");
    let output = site.run(&["check"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be used: this program brings no sink of its own"), "{said}");
}
