//! The loop of a stage over a real inbox.

use super::*;
use crate::{
    config,
    inbox::{self, Access, Filter, NewEntry, State},
};
use event::Event;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Nothing here takes this long; it only turns a hang into a failure.
const LIMIT: Duration = Duration::from_mins(1);

/// Delivers everything but what is of one connection.
#[derive(Default)]
struct Fragile {
    panics: AtomicU32,
}

#[async_trait]
impl Handler for Fragile {
    async fn handle(&self, lease: &Lease) -> Result<Outcome, Error> {
        if lease.entry.connection == "bad" {
            self.panics.fetch_add(1, Relaxed);
            panic!("as a test");
        }
        Ok(Outcome::Done)
    }
}

fn entry(id: &str, connection: &str) -> NewEntry {
    let json = format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"{connection}","accounts":[]}}}}"#
    );
    let event = Event::parse(json.as_bytes()).unwrap();
    NewEntry { event, body: json.into(), received: clock::now(), confirm: false, sender: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_one_attempt_and_an_entry_that_goes_on_panicking_is_parked() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Inbox {
        store: config::Store::Sqlite(folder.path().join("inbox.db")),
        retention: Duration::from_hours(1),
        max_waiting: 1000,
        min_free_disk: 0,
        refused: 0,
    };
    let inbox = inbox::open(&settings, &["app".to_owned()], Access::Owner).unwrap();
    let (handler, metrics, stop) = (Arc::new(Fragile::default()), Arc::new(Metrics::new()), CancellationToken::new());
    let stage = StageLoop {
        stage: inbox.sink("app").unwrap(),
        name: "app".to_owned(),
        concurrency: 1,
        inbox: Arc::clone(&inbox),
        handler: Arc::<Fragile>::clone(&handler),
        metrics: Arc::clone(&metrics),
    };
    let running = tokio::spawn(stage.run(stop.clone(), LIMIT));
    inbox.accept(entry("first", "bad")).await.unwrap();
    inbox.accept(entry("second", "bad")).await.unwrap();
    let parked = Filter { state: Some(State::Parked), ..Filter::default() };
    let started = Instant::now();
    let mut others = 0;
    // Both of that connection, one after the other; all others are delivered meanwhile.
    while inbox.list(&parked, 10).await.unwrap().is_empty() {
        assert!(started.elapsed() < LIMIT, "parked in time");
        inbox.accept(entry(&others.to_string(), "good")).await.unwrap();
        others += 1;
        time::sleep(Duration::from_millis(50)).await;
    }
    let entries = inbox.list(&Filter::default(), 1000).await.unwrap();
    let delivered = entries.iter().filter(|entry| entry.state == State::Done).count();
    assert!(delivered + 2 >= others && others > 0, "{delivered} of {others}");
    let first = entries.iter().find(|entry| entry.id == "first").unwrap();
    assert_eq!(first.state, State::Parked);
    assert!(first.stages[0].reason.as_deref().unwrap().contains("10 times in a row"), "{first:?}");
    assert!(handler.panics.load(Relaxed) >= 10);
    assert_eq!(metrics.work_panics.get(), u64::from(handler.panics.load(Relaxed)));
    stop.cancel();
    running.await.unwrap();
}
