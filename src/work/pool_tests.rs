//! A pool over a real inbox.

use super::*;
use event::Event;
use inbox::{Access, Filter, NewEntry, Settings, SinkName, State, settings::Store};
use prometheus_client::registry::Registry;
use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use tokio::sync::Semaphore;

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
        if lease.entry.connection.as_str() == "bad" {
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
    NewEntry { event, body: json.into(), received: clock::now(), confirm: false, sender: None, trace: None }
}

/// An inbox in a folder, with the sink `app`.
fn open(folder: &Path) -> inbox::Inbox {
    let settings = Settings {
        store: Store::Sqlite(folder.join("inbox.db")),
        journal: Some(inbox::settings::Journal::Off),
        min_free_disk: 0,
        ..::settings::defaults().unwrap()
    };
    inbox::open(&settings, &[SinkName::new("app")], Access::Owner).unwrap()
}

/// A pool for the sink `app`.
fn pool_of(queue: Arc<dyn Queue>, concurrency: usize, handler: Arc<dyn Handler>) -> Pool {
    Pool { stage: Stage::deliver("app"), concurrency, queue, handler, figures: Figures::new(&mut Registry::default()) }
}

/// How many entries stand so.
async fn count(inbox: &inbox::Inbox, state: State) -> usize {
    let wanted = Filter { state: Some(state), ..Filter::default() };
    inbox.desk.list(&wanted, 50).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_one_attempt_and_an_entry_that_goes_on_panicking_is_parked() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    let (handler, draining) = (Arc::new(Fragile::default()), CancellationToken::new());
    let pool = pool_of(Arc::clone(&inbox.queue), 1, Arc::<Fragile>::clone(&handler));
    let figures = pool.figures.clone();
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    inbox.intake.accept(entry("first", "bad")).await.unwrap();
    inbox.intake.accept(entry("second", "bad")).await.unwrap();
    let parked = Filter { state: Some(State::Parked), ..Filter::default() };
    let started = Instant::now();
    let mut others = 0;
    // Both of that connection, one after the other; all others are delivered meanwhile.
    while inbox.desk.list(&parked, 10).await.unwrap().is_empty() {
        assert!(started.elapsed() < LIMIT, "parked in time");
        inbox.intake.accept(entry(&others.to_string(), "good")).await.unwrap();
        others += 1;
        time::sleep(Duration::from_millis(50)).await;
    }
    let entries = inbox.desk.list(&Filter::default(), 1000).await.unwrap();
    let delivered = entries.iter().filter(|entry| entry.state == State::Done).count();
    assert!(delivered + 2 >= others && others > 0, "{delivered} of {others}");
    let first = entries.iter().find(|entry| entry.event_id.as_str() == "first").unwrap();
    assert_eq!(first.state, State::Parked);
    assert!(first.stages[0].reason.as_deref().unwrap().contains("10 times in a row"), "{first:?}");
    assert!(handler.panics.load(Relaxed) >= 10);
    assert_eq!(figures.panicked(), u64::from(handler.panics.load(Relaxed)));
    draining.cancel();
    running.await.unwrap();
}

/// Finds the store broken whenever it is asked.
struct Broken;

#[async_trait]
impl Handler for Broken {
    async fn handle(&self, _: &Lease) -> Result<Outcome, Error> {
        Err(Error::Store("a page cannot be read".into()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_the_store_failed_in_waits_a_little_and_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    let draining = CancellationToken::new();
    let pool = pool_of(Arc::clone(&inbox.queue), 1, Arc::new(Broken));
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    inbox.intake.accept(entry("first", "any")).await.unwrap();
    let postponed = async {
        loop {
            let entries = inbox.desk.list(&Filter::default(), 10).await.unwrap();
            let stage = entries[0].stages[0].clone();
            if stage.state == State::Waiting && stage.reason.is_some() {
                return stage;
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    let stage = time::timeout(LIMIT, postponed).await.expect("it is put off");
    assert_eq!(stage.reason.as_deref(), Some("the inbox's store failed while this was worked on"));
    assert_eq!(stage.attempts, 0);
    draining.cancel();
    running.await.unwrap();
}

/// Delivers batches, and remembers how large they were.
#[derive(Default)]
struct Batches(std::sync::Mutex<Vec<usize>>);

#[async_trait]
impl Handler for Batches {
    async fn handle(&self, _: &Lease) -> Result<Outcome, Error> {
        self.0.lock().unwrap().push(1);
        Ok(Outcome::Done)
    }

    async fn handle_many(&self, leases: &[Lease]) -> Vec<Result<Outcome, Error>> {
        self.0.lock().unwrap().push(leases.len());
        leases.iter().map(|_| Ok(Outcome::Done)).collect()
    }

    fn batch(&self) -> usize {
        4
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_likes_batches_gets_them_and_each_lease_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    for number in 0..10 {
        inbox.intake.accept(entry(&number.to_string(), &number.to_string())).await.unwrap();
    }
    let (handler, draining) = (Arc::new(Batches::default()), CancellationToken::new());
    let pool = pool_of(Arc::clone(&inbox.queue), 10, Arc::<Batches>::clone(&handler));
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    let done = async {
        while count(&inbox, State::Done).await < 10 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, done).await.expect("all are done");
    draining.cancel();
    running.await.unwrap();
    let sizes = handler.0.lock().unwrap().clone();
    assert_eq!(sizes.iter().sum::<usize>(), 10);
    assert!(sizes.iter().all(|size| *size <= 4) && sizes.contains(&4), "{sizes:?}");
}

/// A queue in front of an inbox's own, whose settling fails or takes as long as a test wants.
#[derive(Debug)]
struct Slow {
    inbox: Arc<dyn Queue>,
    /// Settling goes on for each permit.
    goes_on: Semaphore,
    /// So many times it fails before.
    fails: AtomicU32,
    handled: Arc<AtomicU32>,
}

#[async_trait]
impl Queue for Slow {
    async fn claim_merged(
        &self,
        stage: &Stage,
        limit: usize,
        lease_for: Duration,
        merging: Option<&inbox::Merging>,
    ) -> Result<inbox::Claimed, Error> {
        self.inbox.claim_merged(stage, limit, lease_for, merging).await
    }

    async fn wake(&self, stage: &Stage) {
        self.inbox.wake(stage).await;
    }

    async fn renew(&self, lease: &Lease, lease_for: Duration) -> Result<(), Error> {
        self.inbox.renew(lease, lease_for).await
    }

    async fn settle(&self, ended: &[(&Lease, Outcome)]) -> Vec<Result<(), Error>> {
        if self.fails.fetch_update(Relaxed, Relaxed, |fails| fails.checked_sub(1)).is_ok() {
            return ended.iter().map(|_| Err(Error::Full(None))).collect();
        }
        self.goes_on.acquire().await.unwrap().forget();
        self.inbox.settle(ended).await
    }

    async fn awaiting(&self, user: Option<&event::UserId>) -> Result<Vec<inbox::Awaiting>, Error> {
        self.inbox.awaiting(user).await
    }

    async fn resume(&self, which: &inbox::Resume, limit: usize) -> Result<u64, Error> {
        self.inbox.resume(which, limit).await
    }
}

#[async_trait]
impl Handler for Slow {
    async fn handle(&self, _: &Lease) -> Result<Outcome, Error> {
        self.handled.fetch_add(1, Relaxed);
        Ok(Outcome::Done)
    }
}

/// One hand, and entries of so many connections.
async fn one_hand(folder: &Path, entries: usize, fails: u32) -> (inbox::Inbox, Arc<Slow>, Pool) {
    let inbox = open(folder);
    for number in 0..entries {
        inbox.intake.accept(entry(&number.to_string(), &number.to_string())).await.unwrap();
    }
    let slow = Arc::new(Slow {
        inbox: Arc::clone(&inbox.queue),
        goes_on: Semaphore::new(0),
        fails: AtomicU32::new(fails),
        handled: Arc::default(),
    });
    let pool = pool_of(Arc::<Slow>::clone(&slow), 1, Arc::<Slow>::clone(&slow));
    (inbox, slow, pool)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_does_not_wait_for_the_commit_of_what_it_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (inbox, slow, pool) = one_hand(folder.path(), 5, 0).await;
    let draining = CancellationToken::new();
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    let all_handled = async {
        while slow.handled.load(Relaxed) < 5 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, all_handled).await.expect("all are worked on while the first is being settled");
    assert_eq!(count(&inbox, State::Done).await, 0);
    slow.goes_on.add_permits(5);
    // What was finished is settled before the pool ends.
    draining.cancel();
    running.await.unwrap();
    assert_eq!(count(&inbox, State::Done).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_failed_to_settle_is_settled_later_and_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (inbox, slow, pool) = one_hand(folder.path(), 1, 2).await;
    slow.goes_on.add_permits(5);
    let draining = CancellationToken::new();
    let lost = pool.figures.clone();
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    let settled = async {
        while count(&inbox, State::Done).await < 1 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, settled).await.expect("it is settled at last");
    draining.cancel();
    running.await.unwrap();
    assert_eq!((slow.handled.load(Relaxed), lost.lost(), slow.fails.load(Relaxed)), (1, 0, 0));
}

/// Works on nothing until it is told to.
struct Gated {
    goes_on: Semaphore,
    begun: AtomicU32,
    under_way: AtomicU32,
    most: AtomicU32,
    crowded: AtomicU32,
}

#[async_trait]
impl Handler for Gated {
    async fn handle(&self, _: &Lease) -> Result<Outcome, Error> {
        self.begun.fetch_add(1, Relaxed);
        self.most.fetch_max(self.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
        self.goes_on.acquire().await.unwrap().forget();
        self.under_way.fetch_sub(1, Relaxed);
        Ok(Outcome::Done)
    }

    fn crowded(&self, _: usize) {
        self.crowded.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_were_claimed_ahead_are_given_back_at_the_end_and_hands_are_never_more_than_configured() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = open(folder.path());
    for number in 0..40 {
        inbox.intake.accept(entry(&number.to_string(), &number.to_string())).await.unwrap();
    }
    let handler = Arc::new(Gated {
        goes_on: Semaphore::new(28),
        begun: AtomicU32::new(0),
        under_way: AtomicU32::new(0),
        most: AtomicU32::new(0),
        crowded: AtomicU32::new(0),
    });
    let draining = CancellationToken::new();
    let pool = pool_of(Arc::clone(&inbox.queue), 4, Arc::<Gated>::clone(&handler));
    let running = tokio::spawn(pool.run(draining.clone(), LIMIT));
    let leased = async || count(&inbox, State::Leased).await;
    let is_ahead = async {
        // All that were let through are settled, four are under work, the rest waits for them, which the handler is told.
        while count(&inbox, State::Done).await < 28 || leased().await < 12 || handler.crowded.load(Relaxed) == 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, is_ahead).await.expect("quick work is claimed ahead");
    draining.cancel();
    let is_back = async {
        while leased().await > 4 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(LIMIT, is_back).await.expect("what waited for a hand is given back");
    handler.goes_on.add_permits(4);
    running.await.unwrap();
    assert_eq!((count(&inbox, State::Done).await, leased().await), (32, 0));
    assert_eq!((handler.begun.load(Relaxed), handler.most.load(Relaxed)), (32, 4));
}
