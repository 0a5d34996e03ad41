//! A file of version 1 (`tests/fixtures`, whose README tells what is in it) opens, and everything in it is still there.

use crate::{LEASE, accept, event, folded, open_at};
use base::clock::{self, Timestamp};
use event::{AccountId, ConnectionId, UserId};
use inbox::{
    Awaiting, Cause, Certainty, CredentialsMark, Doubts, EntryView, Fetched, Filter, Folded, Found, Inbox, Lease,
    Outcome, Position, ReadingId, Resume, Seq, Span, Stage, StageView, State,
};
use tempfile::TempDir;

/// Entries of the fixture.
const ENTRIES: i64 = 15;
const NEEDS: &str = "its accounts could not be fetched: see the completion";

struct Migrated {
    folder: TempDir,
    inbox: Inbox,
}

impl Migrated {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("inbox.db");
        std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inbox-v1.db"), &path).unwrap();
        let inbox = open_at(&path);
        Self { folder, inbox }
    }

    async fn view(&self, seq: i64) -> EntryView {
        let filter = Filter { seq: Some(Seq(seq)), ..Filter::default() };
        self.inbox.desk.list(&filter, 1).await.unwrap().remove(0)
    }

    async fn stage(&self, seq: i64, stage: &Stage) -> StageView {
        self.view(seq).await.stages.into_iter().find(|view| view.stage == *stage).unwrap()
    }

    async fn body(&self, seq: i64) -> String {
        let body = self.inbox.desk.body(Seq(seq)).await.unwrap().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn by_id(&self, id: &str) -> Vec<i64> {
        let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
        self.inbox.desk.list(&filter, 100).await.unwrap().iter().map(|entry| entry.seq.0).collect()
    }

    async fn claim(&self, stage: &Stage) -> Vec<Lease> {
        self.inbox.queue.claim(stage, 100, LEASE).await.unwrap().leases
    }
}

fn app() -> Stage {
    Stage::deliver("app")
}

fn books() -> Stage {
    Stage::deliver("books")
}

fn seqs(leases: &[Lease]) -> Vec<i64> {
    let mut seqs: Vec<i64> = leases.iter().map(|lease| lease.seq.0).collect();
    seqs.sort_unstable();
    seqs
}

#[tokio::test]
async fn states_of_entries_and_stages_survive() {
    use State::{Done, Parked, Waiting};
    let migrated = Migrated::new();
    let entries = migrated.inbox.desk.list(&Filter::default(), 100).await.unwrap();
    let states: Vec<(i64, State)> = entries.iter().rev().map(|entry| (entry.seq.0, entry.state)).collect();
    let expected = [
        Done, Waiting, Waiting, Waiting, Waiting, Parked, Waiting, Parked, Waiting, Parked, Parked, Waiting, Parked,
        Parked, Waiting,
    ];
    assert_eq!(states, (1..=ENTRIES).zip(expected).collect::<Vec<_>>());
    for (seq, expected) in [
        (2, vec![("app", Waiting), ("books", Done)]),
        (6, vec![("app", Parked), ("books", Waiting)]),
        (7, vec![("completion", Done), ("app", Done), ("books", Waiting)]),
        (9, vec![("completion", Done), ("app", Waiting), ("books", Waiting)]),
        (13, vec![("app", Parked), ("books", Waiting)]),
        (15, vec![("completion", Waiting), ("app", Waiting), ("books", Waiting)]),
    ] {
        let view = migrated.view(seq).await;
        let parts: Vec<_> = view.stages.iter().map(|stage| (stage.stage.as_str(), stage.state)).collect();
        assert_eq!(parts, expected, "entry {seq}");
    }
    let figures = migrated.inbox.upkeep.stats().await.unwrap();
    let counts: Vec<_> = figures.stages.iter().map(|(_, of)| (of.waiting, of.leased, of.parked)).collect();
    assert_eq!(counts, [(2, 0, 3), (7, 0, 6), (9, 0, 4)]);
    assert_eq!(figures.oldest_unfinished, Some(migrated.view(2).await.accepted));
}

#[tokio::test]
async fn reasons_and_causes_survive() {
    let migrated = Migrated::new();
    let unclear = "the event leaves its accounts out and cannot be understood ($.resource.account_count is not of the \
                   documented type): a newer version may know this form; then replay it";
    let lost = "the service ended or hung 10 times in a row while it worked on this entry: look at the logs of those times \
                before you replay it";
    let mark = CredentialsMark::new("mark");
    for (seq, stage, cause, reason) in [
        (1, app(), None, None),
        (2, app(), None, Some("the sink answered 404")),
        (6, app(), None, Some("the sink answered 410")),
        (8, Stage::ACCOUNTS, Some(Cause::Credentials(mark)), Some("the API refused the token")),
        (8, app(), Some(Cause::Needs), Some(NEEDS)),
        (9, Stage::ACCOUNTS, None, Some("the API does not know the connection any more")),
        (10, Stage::ACCOUNTS, Some(Cause::Unclear), Some(unclear)),
        (10, books(), Some(Cause::Needs), Some(NEEDS)),
        (11, Stage::ACCOUNTS, None, Some("the API answered 403")),
        (11, app(), Some(Cause::Needs), Some(NEEDS)),
        (13, app(), Some(Cause::Lost), Some(lost)),
        (14, app(), None, Some("by hand")),
    ] {
        let view = migrated.stage(seq, &stage).await;
        assert_eq!((view.cause, view.reason.as_deref()), (cause, reason), "entry {seq} at {stage}");
    }
    for seq in 1..=ENTRIES {
        assert!(migrated.view(seq).await.attempts.is_empty(), "version 1 remembered none");
    }
}

#[tokio::test]
async fn what_is_known_of_an_event_survives() {
    let migrated = Migrated::new();
    let view = migrated.view(1).await;
    assert_eq!((view.event_id.as_str(), view.connection.as_str()), ("e1", "7"));
    assert_eq!((view.user.unwrap().as_str(), view.channel.unwrap().as_str()), ("u7", "5"));
    assert_eq!((view.event_type.as_str(), view.resource_type.as_str()), ("UPDATED", "CONNECTIONS"));
    assert_eq!((view.account_count, view.listed, view.fetched, view.drift), (Some(1), 1, None, None));
    assert_eq!(view.sender.as_deref(), Some(r#"{"peer":"127.0.0.1"}"#));
    assert_eq!(view.accepted.to_rfc3339().unwrap(), "2026-11-25T22:00:22.776Z");
    assert_eq!((view.stages[0].attempts, view.bytes), (1, 332));
    let body = migrated.body(1).await;
    assert!(body.len() == 332 && body.starts_with(r#"{"id":"e1","#) && body.contains(r#""balance":0.10"#));
    let unclear = migrated.view(10).await;
    assert_eq!(unclear.drift.as_deref(), Some("$.resource.account_count is not of the documented type"));
    assert_eq!((unclear.account_count, unclear.channel), (None, None));
    assert_eq!(migrated.view(7).await.fetched, Some(3));
}

#[tokio::test]
async fn each_connection_keeps_its_order_with_new_events_behind_it() {
    let migrated = Migrated::new();
    let later = accept(&migrated.inbox, &event("later", "7")).await;
    assert_eq!(later, Seq(17), "16 was purged, and its number is not used again");
    // At `books`, entry 2 is done; the others of connection 7 come one after the other.
    for expected in [3, 4, 5, 17] {
        let leases = migrated.claim(&books()).await;
        let of_seven: Vec<&Lease> = leases.iter().filter(|lease| lease.entry.connection.as_str() == "7").collect();
        assert_eq!(of_seven.iter().map(|lease| lease.seq.0).collect::<Vec<_>>(), [expected]);
        for lease in leases {
            migrated.inbox.queue.settle(&lease, Outcome::Done).await.unwrap();
        }
    }
    // At `app`, entry 2 has to be tried again, and holds up the rest. Its time lies further ahead than any pause: it has come.
    let view = migrated.stage(2, &app()).await;
    assert_eq!(view.due, Some(Timestamp::from_millis(4_000_000_000_000)));
    assert_eq!(seqs(&migrated.claim(&app()).await), [2, 9]);
    assert!(migrated.stage(3, &app()).await.is_queued);
}

#[tokio::test]
async fn positions_begin_and_numbers_go_on() {
    let migrated = Migrated::new();
    let receipt = migrated.inbox.intake.accept(crate::new_entry(&event("new", "77"))).await.unwrap();
    assert_eq!(receipt.position, Position(1), "version 1 had none");
    assert_eq!(receipt.folded, Some(Folded::Stored { seq: Seq(17), conflict: false }));
}

#[tokio::test]
async fn a_run_of_failures_goes_on() {
    let migrated = Migrated::new();
    let view = migrated.stage(2, &app()).await;
    assert_eq!(view.attempts, 2);
    let leases = migrated.claim(&app()).await;
    let lease = leases.iter().find(|lease| lease.seq == Seq(2)).unwrap();
    let Doubts { tries, since } = lease.doubts;
    assert_eq!((lease.attempts, tries), (3, 2));
    let (since, failing) = (since.unwrap(), lease.failing_since.unwrap());
    assert_eq!(since, failing);
    assert_eq!(since.to_rfc3339().unwrap().get(..16), Some("2026-11-25T22:00"));
}

#[tokio::test]
async fn delivery_ids_stay_as_they_were_and_find_their_entries() {
    let migrated = Migrated::new();
    let id = async |seq| migrated.view(seq).await.delivery_id.as_str().to_owned();
    assert_eq!(id(1).await, "e1");
    assert_eq!(id(6).await, "v1.2.3", "it may have been delivered under this id already");
    let (other, spaced) = (id(4).await, id(5).await);
    assert_eq!((other.as_str(), spaced.as_str()), ("e1.5f453595", "e1.a8c1748a"));
    for (seq, conflict) in [(1, false), (4, true), (5, true), (6, false)] {
        assert_eq!(migrated.view(seq).await.conflict, conflict, "entry {seq}");
    }
    assert_eq!(migrated.by_id("e1").await, [5, 4, 1]);
    assert_eq!(migrated.by_id(&other).await, [4]);
    assert_eq!(migrated.by_id(&spaced).await, [5]);
    assert_eq!(migrated.by_id("v1.2.3").await, [6]);
    assert_eq!(migrated.by_id("e14").await, [14]);
    let leases = migrated.claim(&books()).await;
    let lease = leases.iter().find(|lease| lease.seq == Seq(6)).unwrap();
    assert_eq!(lease.entry.delivery_id.as_str(), "v1.2.3");
}

#[tokio::test]
async fn duplicates_are_recognised_whatever_their_white_space() {
    let migrated = Migrated::new();
    for seq in [1, 2, 3, 4, 6, 7, 8, 10, 12] {
        let body = migrated.body(seq).await;
        for again in [body.clone(), body.replace(',', " ,\n")] {
            assert_eq!(folded(&migrated.inbox, &again).await, Folded::Duplicate { seq: Seq(seq) });
        }
    }
    let spaced = migrated.body(5).await;
    assert_eq!(
        folded(&migrated.inbox, &spaced).await,
        Folded::Duplicate { seq: Seq(1) },
        "5 is 1 with other white space"
    );
    let other = migrated.body(1).await.replace("0.10", "0.1");
    assert_eq!(folded(&migrated.inbox, &other).await, Folded::Stored { seq: Seq(17), conflict: true });
    assert!(migrated.view(17).await.delivery_id.as_str().starts_with("e1~"));
    assert_eq!(migrated.by_id("e1").await, [17, 5, 4, 1]);
}

#[tokio::test]
async fn an_entry_that_differs_in_white_space_alone_can_be_purged() {
    let migrated = Migrated::new();
    let of = |seq| Filter { seq: Some(Seq(seq)), ..Filter::default() };
    let spaced = migrated.body(5).await;
    for seq in [5, 1] {
        migrated.inbox.desk.park(&of(seq), 1, "by hand").await.unwrap();
        assert_eq!(migrated.inbox.desk.purge(&of(seq), 1).await.unwrap().changed, 1);
    }
    assert_eq!(migrated.by_id("e1").await, [4]);
    assert_eq!(folded(&migrated.inbox, &spaced).await, Folded::Stored { seq: Seq(17), conflict: true });
}

#[tokio::test]
async fn leases_of_a_crash_are_found_again() {
    let migrated = Migrated::new();
    assert_eq!(seqs(&migrated.claim(&Stage::ACCOUNTS).await), [12, 15]);
    let leases = migrated.claim(&books()).await;
    assert_eq!(seqs(&leases), [3, 6, 7, 9, 13]);
    let lease = leases.iter().find(|lease| lease.seq == Seq(7)).unwrap();
    assert_eq!(lease.attempts, 2);
}

#[tokio::test]
async fn what_was_read_is_delivered_and_what_was_begun_goes_on() {
    let migrated = Migrated::new();
    let leases = migrated.claim(&books()).await;
    let lease = leases.iter().find(|lease| lease.seq == Seq(7)).unwrap();
    let found = Found { accounts: 3, unusable: 0, certainty: Certainty::Agreed };
    assert_eq!(lease.entry.fetched, Some(Fetched::Read { reading: ReadingId(1), found }));
    let shelf = &migrated.inbox.shelf;
    let first = r#"{"id":"a","balance":10.10},{"id":"b","balance":10.10}"#;
    let second = r#"{"id":"c","balance":10.10}"#;
    assert_eq!(shelf.pages(ReadingId(1)).await.unwrap(), [(1, first.len() as u64), (2, second.len() as u64)]);
    assert_eq!(shelf.page(ReadingId(1), 1).await.unwrap(), first);
    assert_eq!(shelf.page(ReadingId(1), 2).await.unwrap(), second);
    assert_eq!(shelf.connection(ReadingId(1)).await.unwrap().unwrap(), r#"{"id":"9","status":"SUCCESS"}"#);
    let gone = leases.iter().find(|lease| lease.seq == Seq(9)).unwrap();
    assert_eq!(gone.entry.fetched, Some(Fetched::Gone));

    let fetches = migrated.claim(&Stage::ACCOUNTS).await;
    let open = fetches.iter().find(|lease| lease.seq == Seq(15)).unwrap();
    let age = clock::now().since(migrated.view(15).await.accepted);
    let reading = migrated.inbox.readings.find_or_begin(open, age * 2).await.unwrap();
    assert!(reading.id != ReadingId(1) && reading.found.is_none());
    let page = &reading.pages[0];
    assert_eq!((page.number, page.fresh, page.received, page.bytes), (1, 2, 2, 26));
    assert_eq!((&page.ids[..], &page.foreign[..]), (&[AccountId::new("x")][..], &[AccountId::new("foreign1")][..]));
    let hint = fetches.iter().find(|lease| lease.seq == Seq(12)).unwrap();
    assert!(hint.entry.confirm);
}

#[tokio::test]
async fn what_waits_for_credentials_goes_on_when_there_are_others() {
    let migrated = Migrated::new();
    let awaiting = Awaiting {
        user: Some(UserId::new("u9")),
        connection: ConnectionId::new("9"),
        credentials: CredentialsMark::new("mark"),
    };
    let queue = &migrated.inbox.queue;
    assert_eq!(queue.awaiting(None).await.unwrap(), [awaiting]);
    let which = Resume { credentials: CredentialsMark::new("mark"), user: None, connection: None };
    assert_eq!(queue.resume(&which, 10).await.unwrap(), 1);
    for stage in [Stage::ACCOUNTS, app(), books()] {
        assert_eq!(migrated.stage(8, &stage).await.state, State::Waiting, "{stage}");
    }
    assert_eq!(seqs(&migrated.claim(&Stage::ACCOUNTS).await), [8, 12, 15]);
}

#[tokio::test]
async fn refused_requests_survive() {
    let migrated = Migrated::new();
    let refused = migrated.inbox.desk.refused(Span::default(), 10).await.unwrap();
    let shown: Vec<_> = refused
        .iter()
        .map(|one| (one.reason.as_str(), one.status, one.bytes, one.start.as_deref(), one.at.as_millis()))
        .collect();
    let at = 1_700_000_000_000;
    let start = &b"{\xffno"[..];
    assert_eq!(shown, [("too_large", 400, Some(7), None, at), ("not_json", 400, Some(7), Some(start), at)]);
}

#[tokio::test]
async fn it_is_migrated_once_and_keeps_its_identity() {
    let migrated = Migrated::new();
    let path = migrated.folder.path().join("inbox.db");
    let identity = migrated.inbox.keys.get().unwrap().identity;
    let body = migrated.body(1).await;
    migrated.inbox.upkeep.close().await;
    let again = open_at(&path);
    assert_eq!(again.keys.get().unwrap().identity, identity);
    assert_eq!(folded(&again, &body).await, Folded::Duplicate { seq: Seq(1) });
    let file = rusqlite::Connection::open(&path).unwrap();
    let verdict: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let made = tempfile::TempDir::new().unwrap();
    open_at(&made.path().join("inbox.db")).upkeep.close().await;
    assert_eq!(tables(&file), tables(&rusqlite::Connection::open(made.path().join("inbox.db")).unwrap()));
}

/// Tables with their columns, and indexes, by name: a migrated file has what a new one has.
fn tables(file: &rusqlite::Connection) -> Vec<(String, String)> {
    let mut names =
        file.prepare("SELECT name FROM sqlite_schema WHERE type IN ('table', 'index') ORDER BY name").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let columns = |name: &String| -> String {
        let sql = "SELECT coalesce(group_concat(name || ' ' || type, ', '), '') FROM pragma_table_info(?1)";
        file.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    names.iter().map(|name| (name.clone(), columns(name))).collect()
}
