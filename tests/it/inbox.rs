//! The contract of an inbox, and what is special about the file of the SQLite one.

use crate::support::{event_json, inbox_config, new_entry};
use base::clock;
use linxo_webhook::{
    config,
    inbox::{
        Accepted, Access, Certainty, Completion, Doubts, Error, Filter, Found, Inbox, Lease, Outcome, Page, Refused,
        Seq, Sqlite, Stage, State,
    },
};
use std::{path::Path, time::Duration};
use tempfile::TempDir;

const LEASE: Duration = Duration::from_mins(1);

struct Store {
    folder: TempDir,
    sinks: Vec<String>,
    inbox: Option<Sqlite>,
}

impl Store {
    fn new(sinks: &[&str]) -> Self {
        let mut store = Self {
            folder: TempDir::new().unwrap(),
            sinks: sinks.iter().map(ToString::to_string).collect(),
            inbox: None,
        };
        store.open(&inbox_config());
        store
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("inbox.db")
    }

    fn open(&mut self, config: &config::Inbox) {
        self.inbox = Some(Sqlite::open(&self.path(), config, &self.sinks, Access::Owner).unwrap());
    }

    /// Closes and opens with other settings.
    async fn open_afresh(&mut self, config: &config::Inbox) {
        let inbox = self.inbox.take().unwrap();
        inbox.close().await;
        drop(inbox);
        self.open(config);
    }

    /// Closes without a word to leases, as a crash does, and opens again.
    async fn crash(&mut self) {
        self.open_afresh(&inbox_config()).await;
    }

    fn get(&self) -> &Sqlite {
        self.inbox.as_ref().unwrap()
    }

    fn stage(&self, sink: &str) -> Stage {
        self.get().sink(sink).unwrap()
    }

    async fn accept(&self, id: &str, connection: &str) -> Seq {
        self.accept_json(&event_json(id, connection, 1, false)).await
    }

    async fn accept_truncated(&self, id: &str, connection: &str) -> Seq {
        self.accept_json(&event_json(id, connection, 150, true)).await
    }

    async fn accept_json(&self, json: &str) -> Seq {
        match self.get().accept(new_entry(json)).await.unwrap() {
            Accepted::Stored { seq, .. } => seq,
            Accepted::Duplicate { .. } => panic!("a duplicate"),
        }
    }

    async fn claim(&self, stage: Stage) -> Vec<Lease> {
        self.get().claim(stage, 100, LEASE).await.unwrap().leases
    }

    async fn claim_seqs(&self, stage: Stage) -> Vec<Seq> {
        self.claim(stage).await.iter().map(|lease| lease.seq).collect()
    }

    async fn settle(&self, lease: &Lease, outcome: Outcome) {
        self.get().settle(lease, outcome).await.unwrap();
    }

    async fn state(&self, seq: Seq) -> State {
        self.get().list(&Filter { seq: Some(seq), ..Filter::default() }, 1).await.unwrap()[0].state
    }
}

fn park(reason: &str) -> Outcome {
    Outcome::Park { reason: reason.to_owned() }
}

fn found(accounts: u64) -> Found {
    Found { accounts, certainty: Certainty::Agreed }
}

fn page(number: u32) -> Page {
    let accounts = format!(r#"{{"id":"{number}"}}"#).into();
    Page { number, ids: vec![number.to_string()], accounts, received: 1, ..Page::default() }
}

fn only(seq: Seq) -> Filter {
    Filter { seq: Some(seq), ..Filter::default() }
}

fn filter(state: State) -> Filter {
    Filter { state: Some(state), ..Filter::default() }
}

#[tokio::test]
async fn the_same_bytes_are_stored_once_other_content_twice() {
    let store = Store::new(&["app"]);
    let json = event_json("e1", "7", 1, false);
    let Accepted::Stored { seq, conflict: false } = store.get().accept(new_entry(&json)).await.unwrap() else {
        panic!("not stored")
    };
    assert_eq!(store.get().accept(new_entry(&json)).await.unwrap(), Accepted::Duplicate { seq });
    let other = event_json("e1", "7", 2, false);
    assert!(matches!(store.get().accept(new_entry(&other)).await.unwrap(), Accepted::Stored { conflict: true, .. }));
    let entries = store.get().list(&Filter::default(), 10).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[1].delivery_id.as_str(), entries[1].conflict), ("e1", false));
    assert!(entries[0].conflict && entries[0].delivery_id.starts_with("e1."));
    for id in ["e1", entries[0].delivery_id.as_str()] {
        let found = store.get().list(&Filter { id: Some(id.to_owned()), ..Filter::default() }, 10).await.unwrap();
        assert_eq!(found.len(), if id == "e1" { 2 } else { 1 }, "{id}");
    }
}

#[tokio::test]
async fn duplicates_in_one_batch_are_stored_once() {
    let store = Store::new(&["app"]);
    let json = event_json("e1", "7", 1, false);
    let answers = futures_util::future::join_all((0..50).map(|_| store.get().accept(new_entry(&json)))).await;
    let stored = answers.into_iter().filter(|answer| matches!(answer, Ok(Accepted::Stored { .. }))).count();
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn a_connection_is_leased_in_order_and_others_beside_it() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (a1, a2, b1) = (store.accept("a1", "a").await, store.accept("a2", "a").await, store.accept("b1", "b").await);
    let leases = store.claim(app).await;
    assert_eq!(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [a1, b1]);
    assert!(store.claim(app).await.is_empty(), "leased work is not given out twice");
    assert_eq!(&leases[0].body[..], event_json("a1", "a", 1, false).as_bytes());
    store.settle(&leases[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(app).await, [a2]);
}

#[tokio::test]
async fn sinks_do_not_wait_for_each_other() {
    let store = Store::new(&["dead", "live"]);
    let (dead, live) = (store.stage("dead"), store.stage("live"));
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let stuck = store.claim(dead).await;
    assert_eq!(stuck[0].seq, e1);
    let first = store.claim(live).await;
    store.settle(&first[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(live).await, [e2]);
    assert!(store.claim(dead).await.is_empty());
    assert_eq!(store.state(e1).await, State::Leased);
}

#[tokio::test]
async fn an_entry_is_delivered_only_after_its_completion_and_keeps_its_place() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (cut, whole) = (store.accept_truncated("e1", "a").await, store.accept("e2", "a").await);
    assert!(store.claim(app).await.is_empty(), "the later entry waits for the truncated one");
    let lease = store.claim(Stage::Completion).await.remove(0);
    assert_eq!(lease.seq, cut);
    let reading = store.get().reading(&lease, LEASE).await.unwrap();
    let page =
        Page { number: 1, ids: vec!["x".into()], accounts: r#"{"id":"x"}"#.into(), received: 1, ..Page::default() };
    store.get().keep_page(&lease, reading.id, page).await.unwrap();
    store.settle(&lease, Outcome::Completed { reading: reading.id, found: found(1) }).await;
    let first = store.claim(app).await;
    assert_eq!(first.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [cut]);
    assert_eq!(first[0].entry.completion, Some(Completion::Fetched { reading: reading.id, found: found(1) }));
    assert_eq!(store.get().pages(reading.id).await.unwrap(), [(1, 10)]);
    store.settle(&first[0], Outcome::Done).await;
    assert_eq!(store.claim_seqs(app).await, [whole]);
}

#[tokio::test]
async fn a_parked_entry_leaves_the_line_and_a_replay_puts_it_back() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim(app).await.remove(0);
    store.settle(&lease, park("the sink answered 410")).await;
    assert_eq!(store.state(e1).await, State::Parked);
    assert_eq!(store.get().replay(&filter(State::Parked), 10).await.unwrap().changed, 1);
    assert_eq!(store.claim_seqs(app).await, [e1], "replayed ahead of the later entry, which was not begun");
    assert_eq!(store.state(e2).await, State::Waiting);
}

#[tokio::test]
async fn a_replayed_entry_goes_before_a_later_one_that_lost_its_lease() {
    let mut store = Store::new(&["app"]);
    let app = store.stage("app");
    let (e1, e2) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim(app).await.remove(0);
    store.settle(&lease, park("the sink answered 410")).await;
    assert_eq!(store.claim_seqs(app).await, [e2]);
    store.get().replay(&filter(State::Parked), 10).await.unwrap();
    store.crash().await;
    assert_eq!(store.claim_seqs(app).await, [e1], "found by the model test: both were leased");
}

#[tokio::test]
async fn a_parked_completion_parks_its_deliveries_and_is_replayed_with_them() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (cut, whole) = (store.accept_truncated("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim(Stage::Completion).await.remove(0);
    store.settle(&lease, park("no [linxo] section")).await;
    assert_eq!(store.claim_seqs(app).await, [whole], "later entries go on");
    let entry = store.get().list(&filter(State::Parked), 10).await.unwrap().remove(0);
    assert_eq!(entry.seq, cut);
    assert_eq!(entry.stages[0].reason.as_deref(), Some("no [linxo] section"));
    assert_eq!(store.get().replay(&Filter { seq: Some(cut), ..Filter::default() }, 10).await.unwrap().changed, 1);
    assert_eq!(store.claim_seqs(Stage::Completion).await, [cut]);
    assert!(store.claim(app).await.is_empty());
}

#[tokio::test]
async fn leases_end_with_their_token_their_time_or_the_process() {
    let mut store = Store::new(&["app"]);
    let app = store.stage("app");
    let seq = store.accept("e1", "a").await;
    drop(store.get().claim(app, 1, Duration::ZERO).await.unwrap());
    let lost = store.claim(app).await.remove(0);
    assert_eq!((lost.seq, lost.attempts), (seq, 2), "nobody worked on it any more");
    store.get().park(&only(seq), 1, "by hand").await.unwrap();
    store.get().replay(&only(seq), 1).await.unwrap();
    let held = store.claim(app).await.remove(0);
    assert_eq!((held.seq, held.attempts), (seq, 1));
    for stale in [store.get().settle(&lost, Outcome::Done).await, store.get().renew(&lost, LEASE).await] {
        assert!(matches!(stale, Err(Error::LeaseLost(of)) if of == seq));
    }
    store.get().renew(&held, LEASE).await.unwrap();
    store.settle(&held, Outcome::GiveBack).await;
    let again = store.claim(app).await.remove(0);
    assert_eq!(again.attempts, 1, "what was given back does not count");
    store.crash().await;
    assert_eq!(store.claim(app).await.remove(0).attempts, 2, "found again after a crash");
}

#[tokio::test]
async fn a_lease_that_is_worked_on_here_is_not_given_to_another() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    store.accept("e1", "a").await;
    let expired = store.get().claim(app, 1, Duration::ZERO).await.unwrap().leases.remove(0);
    let other = store.accept("e2", "b").await;
    let claimed = store.get().claim(app, 1, LEASE).await.unwrap();
    assert_eq!(claimed.leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [other], "the clock was set, say");
    store.settle(&expired, Outcome::Done).await;
}

#[tokio::test]
async fn a_reading_is_written_only_by_who_holds_the_lease() {
    let store = Store::new(&["app"]);
    let seq = store.accept_truncated("e1", "a").await;
    let lost = store.claim(Stage::Completion).await.remove(0);
    let reading = store.get().reading(&lost, LEASE).await.unwrap();
    store.get().park(&only(seq), 1, "by hand").await.unwrap();
    store.get().replay(&only(seq), 1).await.unwrap();
    let held = store.claim(Stage::Completion).await.remove(0);
    let current = store.get().reading(&held, LEASE).await.unwrap();
    store.get().keep_page(&held, current.id, page(1)).await.unwrap();
    for stale in [
        store.get().keep_page(&lost, reading.id, page(1)).await,
        store.get().replace_accounts(&lost, current.id, 1, "".into()).await,
        store.get().keep_connection(&lost, current.id, "{}".into()).await,
        store.get().reading(&lost, LEASE).await.map(drop),
    ] {
        assert!(matches!(stale, Err(Error::LeaseLost(of)) if of == seq));
    }
    assert_eq!(&store.get().page(current.id, 1).await.unwrap()[..], br#"{"id":"1"}"#);
}

#[tokio::test]
async fn what_was_read_in_vain_is_not_kept() {
    let store = Store::new(&["app"]);
    for (id, outcome) in [("e1", Outcome::Gone), ("e2", park("403"))] {
        store.accept_truncated(id, "a").await;
        let lease = store.claim(Stage::Completion).await.remove(0);
        let reading = store.get().reading(&lease, LEASE).await.unwrap();
        store.get().keep_page(&lease, reading.id, page(1)).await.unwrap();
        store.settle(&lease, outcome).await;
        assert!(store.get().pages(reading.id).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_last_room_on_the_disk_is_for_events() {
    let mut store = Store::new(&["app"]);
    let disk = rustix::fs::statvfs(store.folder.path()).unwrap();
    let free = disk.f_bavail * disk.f_frsize;
    // Room for events, but not a quarter more.
    store.open_afresh(&config::Inbox { min_free_disk: free / 10 * 9, ..inbox_config() }).await;
    store.accept_truncated("e1", "a").await;
    let lease = store.claim(Stage::Completion).await.remove(0);
    let reading = store.get().reading(&lease, LEASE).await.unwrap();
    assert!(matches!(store.get().keep_page(&lease, reading.id, page(1)).await, Err(Error::Full(_))));
    store.accept("e2", "a").await;
}

#[tokio::test]
async fn an_entry_that_keeps_ending_the_process_is_parked() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (poison, next) = (store.accept("e1", "a").await, store.accept("e2", "a").await);
    for _ in 0..10 {
        assert_eq!(store.get().claim(app, 1, Duration::ZERO).await.unwrap().leases[0].seq, poison);
    }
    assert!(store.claim(app).await.is_empty());
    assert_eq!(store.state(poison).await, State::Parked);
    assert_eq!(store.claim_seqs(app).await, [next]);
}

#[tokio::test]
async fn retries_wait_for_their_time_and_remember_since_when() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    store.accept("e1", "a").await;
    let lease = store.claim(app).await.remove(0);
    let due = clock::now().after(Duration::from_secs(30));
    store.settle(&lease, Outcome::Retry { due, reason: "503".to_owned(), is_doubtful: false }).await;
    let claimed = store.get().claim(app, 1, LEASE).await.unwrap();
    assert!(claimed.leases.is_empty());
    assert_eq!(claimed.next_due, Some(due));
    let view = store.get().list(&Filter::default(), 1).await.unwrap().remove(0);
    assert_eq!((view.state, view.stages[0].reason.as_deref()), (State::Waiting, Some("503")));
}

#[tokio::test]
async fn only_doubts_in_a_row_make_a_run() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    store.accept("e1", "a").await;
    let mut since = None;
    for (is_doubtful, before) in [(false, 0), (true, 0), (true, 1), (false, 2), (true, 0), (true, 1)] {
        let lease = store.claim(app).await.remove(0);
        assert_eq!(lease.doubts.tries, before);
        assert_eq!(lease.doubts.since.is_some(), before > 0);
        since = lease.doubts.since;
        let due = clock::now().before(LEASE);
        store.settle(&lease, Outcome::Retry { due, reason: "404".to_owned(), is_doubtful }).await;
    }
    for outcome in [
        Outcome::GiveBack,
        Outcome::Postpone { due: clock::now().before(LEASE), reason: "left alone".to_owned() },
        park("by hand"),
    ] {
        let lease = store.claim(app).await.remove(0);
        assert_eq!(lease.doubts, Doubts { tries: 2, since }, "what was not tried neither adds nor ends");
        store.settle(&lease, outcome).await;
    }
    store.get().replay(&filter(State::Parked), 1).await.unwrap();
    assert_eq!(store.claim(app).await[0].doubts, Doubts::default());
}

#[tokio::test]
async fn a_reading_is_gone_on_with_by_the_age_of_its_last_page() {
    let mut store = Store::new(&["app"]);
    store.accept_truncated("e1", "a").await;
    let earlier = |hours: i64| {
        let sql = "UPDATE event SET accepted = accepted - ?1; UPDATE reading SET started = started - ?1, changed = changed - ?1;";
        let sql = sql.replace("?1", &(hours * 3_600_000).to_string());
        rusqlite::Connection::open(store.path()).unwrap().execute_batch(&sql).unwrap();
    };
    let lease = store.claim(Stage::Completion).await.remove(0);
    let reading = store.get().reading(&lease, LEASE).await.unwrap();
    earlier(3);
    store.get().keep_page(&lease, reading.id, page(1)).await.unwrap();
    store.crash().await;
    let lease = store.claim(Stage::Completion).await.remove(0);
    let resumed = store.get().reading(&lease, LEASE).await.unwrap();
    assert_eq!((resumed.id, resumed.pages.len()), (reading.id, 1), "begun long ago, and going on");
    let earlier = "UPDATE reading SET changed = changed - 61000";
    rusqlite::Connection::open(store.path()).unwrap().execute_batch(earlier).unwrap();
    let fresh = store.get().reading(&lease, LEASE).await.unwrap();
    assert!(fresh.id != reading.id && fresh.pages.is_empty(), "left for too long");
    assert!(store.get().pages(reading.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_reading_takes_the_place_of_one_that_does_not_do() {
    let store = Store::new(&["app"]);
    let (first, second) = (store.accept_truncated("e1", "a").await, store.accept_truncated("e2", "a").await);
    let lease = store.claim(Stage::Completion).await.remove(0);
    let reading = store.get().reading(&lease, LEASE).await.unwrap();
    store.get().keep_page(&lease, reading.id, page(1)).await.unwrap();
    let as_announced = Found { accounts: 1, certainty: Certainty::AsAnnounced };
    store.settle(&lease, Outcome::Completed { reading: reading.id, found: as_announced }).await;
    let lease = store.claim(Stage::Completion).await.remove(0);
    assert_eq!((lease.seq, store.get().reading(&lease, LEASE).await.unwrap().found), (second, Some(as_announced)));
    let other = store.get().begin_reading(&lease).await.unwrap();
    assert!(other.id != reading.id && other.found.is_none());
    store.get().keep_page(&lease, other.id, page(1)).await.unwrap();
    assert_eq!(store.get().reading(&lease, LEASE).await.unwrap().id, other.id, "gone on with after a crash");
    store.settle(&lease, Outcome::Completed { reading: other.id, found: found(1) }).await;
    let leases = store.claim(store.stage("app")).await;
    let expected = Completion::Fetched { reading: reading.id, found: as_announced };
    assert_eq!((leases[0].seq, leases[0].entry.completion), (first, Some(expected)));
    assert_eq!(store.get().pages(reading.id).await.unwrap().len(), 1, "the first is still delivered from its own");
}

#[tokio::test]
async fn work_wakes_its_stage() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    store.accept("e1", "a").await;
    tokio::time::timeout(Duration::from_secs(5), store.get().wake(app)).await.unwrap();
}

#[tokio::test]
async fn readings_are_resumed_shared_and_released() {
    let mut store = Store::new(&["app"]);
    let (first, second) = (store.accept_truncated("e1", "a").await, store.accept_truncated("e2", "a").await);
    let lease = store.claim(Stage::Completion).await.remove(0);
    assert_eq!(lease.seq, first);
    let reading = store.get().reading(&lease, LEASE).await.unwrap();
    store.get().keep_page(&lease, reading.id, page(1)).await.unwrap();
    store.crash().await;
    let lease = store.claim(Stage::Completion).await.remove(0);
    let resumed = store.get().reading(&lease, LEASE).await.unwrap();
    assert_eq!((resumed.id, resumed.pages.len(), resumed.found), (reading.id, 1, None));
    store.get().keep_page(&lease, reading.id, page(2)).await.unwrap();
    store.settle(&lease, Outcome::Completed { reading: reading.id, found: found(2) }).await;

    let lease = store.claim(Stage::Completion).await.remove(0);
    assert_eq!(lease.seq, second);
    let shared = store.get().reading(&lease, LEASE).await.unwrap();
    assert_eq!((shared.id, shared.found), (reading.id, Some(found(2))), "younger than both events");
    store.settle(&lease, Outcome::Completed { reading: reading.id, found: found(2) }).await;
    tokio::time::sleep(Duration::from_millis(2)).await;

    store.accept_truncated("e3", "a").await;
    let lease = store.claim(Stage::Completion).await.remove(0);
    let fresh = store.get().reading(&lease, LEASE).await.unwrap();
    assert_ne!(fresh.id, reading.id, "older than the event");
    store.settle(&lease, park("stop")).await;

    for seq in [first, second] {
        assert_eq!(store.get().pages(reading.id).await.unwrap().len(), 2);
        assert_eq!(
            store.get().park(&Filter { seq: Some(seq), ..Filter::default() }, 1, "by hand").await.unwrap().changed,
            1
        );
        assert_eq!(store.get().purge(&Filter { seq: Some(seq), ..Filter::default() }, 1).await.unwrap().changed, 1);
    }
    assert!(store.get().pages(reading.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_unfinished_is_purged_or_expired() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let (done, waiting) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    let lease = store.get().claim(app, 1, LEASE).await.unwrap().leases.remove(0);
    assert_eq!(lease.seq, done);
    store.settle(&lease, Outcome::Done).await;
    let later = clock::now().after(Duration::from_secs(1));
    assert_eq!(store.get().expire(later, 100).await.unwrap(), 1);
    assert_eq!(store.get().purge(&Filter::default(), 100).await.unwrap().changed, 0);
    let left = store.get().list(&Filter::default(), 10).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [waiting]);
    assert!(store.accept("e3", "c").await > waiting, "numbers are never used again");
}

#[tokio::test]
async fn a_backlog_over_the_limit_is_refused_until_it_shrinks() {
    let mut store = Store::new(&["app"]);
    store.inbox.take().unwrap().close().await;
    store.open(&config::Inbox { max_waiting: 2, ..inbox_config() });
    store.accept("e1", "a").await;
    store.accept("e2", "a").await;
    let refused = store.get().accept(new_entry(&event_json("e3", "a", 1, false))).await;
    assert!(matches!(refused, Err(Error::Backlog)));
    let lease = store.claim(store.stage("app")).await.remove(0);
    store.settle(&lease, Outcome::Done).await;
    store.accept("e3", "a").await;
}

#[tokio::test]
async fn too_little_free_disk_is_refused() {
    let mut store = Store::new(&["app"]);
    store.inbox.take().unwrap().close().await;
    store.open(&config::Inbox { min_free_disk: u64::MAX, ..inbox_config() });
    let refused = store.get().accept(new_entry(&event_json("e1", "a", 1, false))).await;
    assert!(matches!(refused, Err(Error::Full(_))));
    assert!(matches!(store.get().ready(), Err(Error::Full(_))));
}

#[tokio::test]
async fn filters_find_entries_by_state_sink_connection_and_user() {
    let store = Store::new(&["one", "two"]);
    let (one, two) = (store.stage("one"), store.stage("two"));
    let (a, b) = (store.accept("a", "7").await, store.accept("b", "8").await);
    let leases = store.claim(one).await;
    store.settle(&leases[0], Outcome::Done).await;
    let second = store.claim(two).await;
    store.settle(&second[0], park("410")).await;
    let find = async |filter: Filter| -> Vec<Seq> {
        store.get().list(&filter, 10).await.unwrap().iter().map(|entry| entry.seq).collect()
    };
    let by = |state, sink: &str| Filter { state: Some(state), sink: Some(sink.to_owned()), ..Filter::default() };
    assert_eq!(find(by(State::Done, "one")).await, [a]);
    assert_eq!(find(by(State::Leased, "one")).await, [b]);
    assert_eq!(find(by(State::Parked, "two")).await, [a]);
    assert_eq!(find(by(State::Waiting, "two")).await, []);
    assert_eq!(find(filter(State::Parked)).await, [a]);
    assert_eq!(find(filter(State::Leased)).await, [b]);
    assert_eq!(find(filter(State::Done)).await, []);
    assert_eq!(find(Filter { connection: Some("8".into()), ..Filter::default() }).await, [b]);
    assert_eq!(find(Filter { user: Some("u7".into()), ..Filter::default() }).await, [a]);
    assert_eq!(find(Filter { before: Some(b), ..Filter::default() }).await, [a]);
    let stats = store.get().stats().await.unwrap();
    assert_eq!(
        stats.stages.iter().map(|(_, counts)| (counts.waiting, counts.leased, counts.parked)).collect::<Vec<_>>(),
        [(0, 0, 0), (0, 1, 0), (0, 1, 1)]
    );
}

#[tokio::test]
async fn a_command_beside_the_service_replays_for_it() {
    let store = Store::new(&["app"]);
    let app = store.stage("app");
    let seq = store.accept("e1", "a").await;
    let lease = store.claim(app).await.remove(0);
    store.settle(&lease, Outcome::Done).await;
    let guest = Sqlite::open(&store.path(), &inbox_config(), &store.sinks, Access::Guest).unwrap();
    assert_eq!(guest.replay(&Filter { seq: Some(seq), ..Filter::default() }, 1).await.unwrap().changed, 1);
    assert_eq!(store.claim_seqs(app).await, [seq]);
    guest.close().await;
}

#[tokio::test]
async fn a_sink_that_was_added_later_gets_new_entries_and_by_replay_old_ones() {
    let mut store = Store::new(&["app"]);
    let old = store.accept("e1", "a").await;
    store.inbox.take().unwrap().close().await;
    store.sinks.push("late".to_owned());
    store.open(&inbox_config());
    let new = store.accept("e2", "b").await;
    assert_eq!(store.claim_seqs(store.stage("late")).await, [new]);
    let wanted = Filter { seq: Some(old), sink: Some("late".to_owned()), ..Filter::default() };
    assert_eq!(store.get().replay(&wanted, 1).await.unwrap().changed, 1);
    assert_eq!(store.claim_seqs(store.stage("late")).await, [old]);
}

#[tokio::test]
async fn one_process_owns_the_file() {
    let store = Store::new(&["app"]);
    let second = Sqlite::open(&store.path(), &inbox_config(), &store.sinks, Access::Owner);
    assert!(second.unwrap_err().to_string().contains("another linxo-webhook has it open"));
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new(&["app"]);
    store.accept("e1", "a").await;
    for file in std::fs::read_dir(store.folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.path().display());
    }
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_refused_with_what_to_do() {
    let open = |path: &Path| match Sqlite::open(path, &inbox_config(), &["app".to_owned()], Access::Owner) {
        Err(Error::Open { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    let mut store = Store::new(&["app"]);
    for n in 0..200 {
        store.accept(&format!("e{n}"), "a").await;
    }
    let path = store.path();
    store.inbox.take().unwrap().close().await;
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..whole.len() - 20_000]).unwrap();
    assert!(open(&path).contains("damaged"), "cut short");
    std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
    assert!(open(&path).contains("damaged"), "not a database");
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, &newer).unwrap();
    assert!(open(&path).contains("another version"), "a newer schema");
    std::fs::write(&path, &whole).unwrap();
    store.open(&inbox_config());
    assert_eq!(store.get().list(&Filter::default(), 1000).await.unwrap().len(), 200);
}

fn refused(at: clock::Timestamp, reason: &'static str) -> Refused {
    Refused {
        at,
        sender: r#"{"peer":"192.0.2.7:5000"}"#.to_owned(),
        reason,
        status: 400,
        size: Some(7),
        start: Some(bytes::Bytes::from_static(b"{\xffno")),
    }
}

#[tokio::test]
async fn refused_requests_are_a_bounded_list_of_the_newest() {
    let mut store = Store::new(&["app"]);
    store.open_afresh(&config::Inbox { refused: 3, ..inbox_config() }).await;
    let now = clock::now();
    for reason in ["one", "two", "three", "four"] {
        store.get().refuse(vec![refused(now, reason)]).await.unwrap();
    }
    let found = store.get().refused(10).await.unwrap();
    let reasons: Vec<_> = found.iter().map(|request| request.reason.as_str()).collect();
    assert_eq!(reasons, ["four", "three", "two"]);
    assert_eq!((found[0].status, found[0].bytes, found[0].start.as_deref()), (400, Some(7), Some("{\u{fffd}no")));
    assert_eq!(found[0].sender.as_ref().unwrap()["peer"], "192.0.2.7:5000");
    assert_eq!(store.get().refused(1).await.unwrap().len(), 1);
    // They have the same retention as entries, and are no entries.
    assert_eq!(store.get().expire(now.after(Duration::from_secs(1)), 10).await.unwrap(), 0);
    assert!(store.get().refused(10).await.unwrap().is_empty());
    assert!(store.get().list(&Filter::default(), 10).await.unwrap().is_empty());

    store.open_afresh(&config::Inbox { refused: 0, ..inbox_config() }).await;
    store.get().refuse(vec![refused(now, "five")]).await.unwrap();
    assert!(store.get().refused(10).await.unwrap().is_empty());
    store.open_afresh(&config::Inbox { min_free_disk: u64::MAX, ..inbox_config() }).await;
    assert!(matches!(store.get().refuse(vec![refused(now, "six")]).await, Err(Error::Full(_))));
}
