//! The seal on PostgreSQL: what lies on the server under a key, which receivers may write, and how keys come, change and go while several
//! receivers use them.

use super::{LIMIT, at, eventually};
use crate::bank::{CANARIES, accept, body, fill, held, is_filled, key, new_entry, refuse, stored, telling};
use base::error::chain;
use double::servers::{Options, Postgres};
use futures_util::future::join_all;
use inbox::{
    Access, Error, Filter, Folded, Inbox, Settings, SinkName, Span, Stage, State, Subject,
    settings::{KeysPlace, Store},
};
use rstest::rstest;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Where the data keys are.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// In a schema beside the inbox's, as by default.
    Schema,
    /// On a server of their own.
    Server,
}

/// Servers, and the settings for a sealed inbox on them.
struct Site {
    server: Postgres,
    /// For the keys.
    other: Option<Postgres>,
    settings: Settings,
}

impl Site {
    async fn new(keys: Keys) -> Self {
        let start = || Postgres::start(&Options::default()).unwrap();
        let (server, other) = (start(), matches!(keys, Keys::Server).then(start));
        let keys = other.as_ref().map(|other| {
            let Ok(Store::Postgres(server)) = format!("{}&schema=linxo_webhook_keys", other.url()).parse() else {
                panic!()
            };
            KeysPlace::Server(server)
        });
        let settings = Settings { key: vec![key(1)], keys, ..at(&server.url()) };
        inbox::init(&settings).await.unwrap();
        Self { server, other, settings }
    }

    fn with(&self, keys: &[u8]) -> Settings {
        Settings { key: keys.iter().map(|byte| key(*byte)).collect(), ..self.settings.clone() }
    }

    /// Runs a statement where the keys are.
    fn keys_sql(&self, sql: &str) -> String {
        let server = self.other.as_ref().unwrap_or(&self.server);
        server.sql(&format!("SET search_path = linxo_webhook_keys; {sql}")).unwrap()
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&format!("SET search_path = linxo_webhook; {sql}")).unwrap()
    }

    /// Files of the servers that hold bank data: tables, the log of transactions, everything.
    fn telling(&self) -> Vec<PathBuf> {
        let servers = [Some(&self.server), self.other.as_ref()];
        let files = servers.into_iter().flatten().flat_map(|server| {
            server.sql("CHECKPOINT").unwrap();
            telling(&server.data())
        });
        files.collect()
    }
}

async fn try_open(settings: &Settings, access: Access) -> Result<Inbox, Error> {
    let inbox = inbox::connect(settings, &["app", "books"].map(SinkName::new), access).await?;
    inbox.sinks.paused().await?;
    Ok(inbox)
}

async fn open(settings: &Settings) -> Inbox {
    try_open(settings, Access::Owner).await.unwrap()
}

fn problem(error: &Error) -> String {
    assert!(matches!(error, Error::Seal { .. }), "{error:?}");
    chain(error)
}

async fn seal_all(inbox: &Inbox) -> u64 {
    let (started, mut changed) = (Instant::now(), 0);
    loop {
        let done = inbox.upkeep.seal(4).await.unwrap();
        changed += done.changed;
        if done.is_done {
            return changed;
        }
        assert!(started.elapsed() < LIMIT);
    }
}

/// Every entry's event is there.
async fn all_open(inbox: &Inbox, count: usize) {
    let entries = inbox.desk.list(&Filter::default(), 10_000).await.unwrap();
    assert_eq!(entries.len(), count);
    for entry in entries {
        let body = inbox.desk.body(entry.seq).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&body).contains(CANARIES[0]), "{entry:?}");
    }
}

/// The byte search over every file of the server: tables, indexes, its log.
#[rstest]
#[case::schema(Keys::Schema)]
#[case::server(Keys::Server)]
#[tokio::test(flavor = "multi_thread")]
async fn under_a_key_no_bank_data_is_on_the_server(#[case] keys: Keys) {
    let site = Site::new(keys).await;
    for settings in [site.with(&[1]), Settings { store: other_schema(&site), ..site.with(&[]) }] {
        let is_sealed = !settings.key.is_empty();
        inbox::init(&settings).await.unwrap();
        let inbox = open(&settings).await;
        let seq = fill(&inbox).await;
        is_filled(&inbox, seq).await;
        let lease =
            inbox.queue.claim(&Stage::deliver("app"), 1, Duration::from_mins(1)).await.unwrap().leases.remove(0);
        assert_eq!(lease.body, body("e1", "c1", Some("u1"), false));
        let (told, _) = inbox::try_server(&settings).await.unwrap().unwrap();
        assert_eq!(told.ends_with("which is not sealed"), !is_sealed, "{told}");
        let found = site.telling();
        assert_eq!(found.is_empty(), is_sealed, "the search finds what is there: {found:?}");
        inbox.upkeep.close().await;
        is_filled(&open(&settings).await, seq).await;
    }
}

fn other_schema(site: &Site) -> Store {
    format!("{}&schema=plain", site.server.url()).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_fit_is_said_and_a_list_needs_none() {
    let site = Site::new(Keys::Schema).await;
    let inbox = open(&site.settings).await;
    let seq = fill(&inbox).await;
    inbox.upkeep.close().await;

    let none = site.with(&[]);
    assert!(problem(&try_open(&none, Access::Owner).await.unwrap_err()).contains("inbox unseal"));
    assert!(problem(&inbox::try_server(&none).await.unwrap().unwrap_err()).contains("inbox.key is not set"));
    let guest = try_open(&none, Access::Guest).await.unwrap();
    let by_id = Filter { id: Some("e1".to_owned()), ..Filter::default() };
    assert_eq!(guest.desk.list(&by_id, 10).await.unwrap()[0].seq, seq, "an id is found without the key");
    assert!(guest.desk.refused(Span::default(), 10).await.unwrap()[0].start.is_none());
    assert!(chain(&guest.desk.body(seq).await.unwrap_err()).contains("inbox.key is not set"));

    for access in [Access::Owner, Access::Guest] {
        assert!(problem(&try_open(&site.with(&[2]), access).await.unwrap_err()).contains("is not the key"));
    }
    // As a dump of the keys from before the last one brings it back.
    let newest = site.keys_sql("SELECT last_value FROM key_number_seq");
    site.keys_sql("SELECT setval('key_number_seq', 1)");
    assert!(problem(&try_open(&site.settings, Access::Owner).await.unwrap_err()).contains("is older than the inbox"));
    site.keys_sql(&format!("SELECT setval('key_number_seq', {newest})"));
    site.sql("ALTER SCHEMA linxo_webhook_keys RENAME TO away");
    assert!(problem(&try_open(&site.settings, Access::Owner).await.unwrap_err()).contains("is not in the schema"));
    assert!(problem(&inbox::try_server(&site.settings).await.unwrap().unwrap_err()).contains("is not in the schema"));
    site.sql("ALTER SCHEMA away RENAME TO linxo_webhook_keys");
    is_filled(&open(&site.settings).await, seq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_by_init_alone_and_belong_to_one_inbox() {
    let site = Site::new(Keys::Server).await;
    let server = Postgres::start(&Options::default()).unwrap();
    let plain = at(&server.url());
    inbox::init(&plain).await.unwrap();
    let settings = Settings { key: vec![key(1)], ..plain };
    assert!(problem(&try_open(&settings, Access::Owner).await.unwrap_err()).contains("inbox init"));
    // Two at once, as two jobs may.
    let (one, other) = tokio::join!(inbox::init(&settings), inbox::init(&settings));
    assert_eq!(one.unwrap().unwrap().0, other.unwrap().unwrap().0);
    open(&settings).await.upkeep.close().await;
    let foreign = Settings { keys: site.settings.keys.clone(), ..settings };
    assert!(problem(&inbox::init(&foreign).await.unwrap_err()).contains("of another inbox"));
    assert!(problem(&try_open(&foreign, Access::Owner).await.unwrap_err()).contains("of another inbox"));
}

/// Events of the same connections come to three receivers at the same time: one key for each connection, which all of them open.
#[rstest]
#[case::schema(Keys::Schema)]
#[case::server(Keys::Server)]
#[tokio::test(flavor = "multi_thread")]
async fn receivers_make_one_key_for_an_owner(#[case] keys: Keys) {
    let site = Site::new(keys).await;
    let receivers = join_all((0..3).map(|_| open(&site.settings))).await;
    for round in 0..5 {
        let sent = receivers.iter().enumerate().flat_map(|(number, inbox)| {
            (0..20).map(move |connection| {
                let json =
                    body(&format!("{round}-{number}-{connection}"), &format!("{round}-{connection}"), Some("u"), false);
                async move { inbox.intake.accept(new_entry(&json)).await.unwrap() }
            })
        });
        join_all(sent).await;
    }
    for inbox in &receivers {
        all_open(inbox, 300).await;
    }
    assert_eq!(site.keys_sql("SELECT count(*) FROM key"), "100");
}

/// A receiver goes on accepting events of a connection while another one erases it again and again. Whatever was accepted is either
/// erased, or opens: no row is sealed with a key that is gone.
#[rstest]
#[case::schema(Keys::Schema)]
#[case::server(Keys::Server)]
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_key_seals_nothing_any_more(#[case] keys: Keys) {
    let site = Site::new(keys).await;
    let (one, other) = (open(&site.settings).await, open(&site.settings).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let sender = {
        let (inbox, is_over) = (one.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                accept(&inbox, &body(&format!("e{sent}"), "c1", Some("u1"), false)).await;
                sent += 1;
            }
            sent
        })
    };
    let mut erased = 0;
    for _ in 0..15 {
        erased += other.persons.erase(&Subject::Connection(event::ConnectionId::new("c1"))).await.unwrap().entries;
        let entries = other.desk.list(&Filter::default(), 10_000).await.unwrap();
        for entry in entries {
            // It may be erased, and not unreadable.
            one.desk.body(entry.seq).await.unwrap();
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let sent: u64 = sender.await.unwrap();
    let rest = other.desk.list(&Filter::default(), 10_000).await.unwrap().len();
    assert_eq!(erased + rest as u64, sent);
    all_open(&one, rest).await;
    accept(&one, &body("last", "c1", Some("u1"), false)).await;
    all_open(&other, rest + 1).await;
    let gone: u64 = site.keys_sql("SELECT count(*) FROM erased").parse().unwrap();
    assert!(gone > 1, "{gone}");
    let alive = if matches!(keys, Keys::Schema) {
        site.sql("SELECT count(*) FROM entry WHERE key IN (SELECT id FROM linxo_webhook_keys.erased)")
    } else {
        "0".to_owned()
    };
    assert_eq!(alive, "0");
}

/// A receiver that was started without a key is told when another one seals the inbox, and its events are refused, not written in clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_without_a_key_is_refused_beside_others_that_have_one() {
    let site = Site::new(Keys::Schema).await;
    let first = open(&site.with(&[])).await;
    let seq = fill(&first).await;
    for number in 10..40 {
        accept(&first, &body(&format!("e{number}"), "c7", None, false)).await;
    }
    // A body that is damaged must not become whole by being sealed.
    site.sql("UPDATE body SET bytes = '\\x7b7d' WHERE seq = 20");
    assert!(seal_all(&first).await == 0, "nothing is to be sealed");

    let (one, two) = (open(&site.settings).await, open(&site.settings).await);
    let told = problem(&first.intake.accept(new_entry(&body("lost", "c1", None, false))).await.unwrap_err());
    assert!(told.contains("give every receiver the same inbox.key"), "{told}");
    eventually("it is not ready", async || first.intake.ready().err()).await;
    let refused = first.intake.refuse(Vec::new()).await;
    assert!(matches!(refused, Err(Error::Seal { .. })), "{refused:?}");
    let claimed = first.queue.claim(&Stage::deliver("app"), 10, Duration::from_mins(1)).await;
    assert!(matches!(claimed, Err(Error::Seal { .. })), "what it cannot open it does not lease: {claimed:?}");
    first.upkeep.close().await;
    // Both seal what was there, one at a time, and a repeat is recognised meanwhile.
    let repeat = body("e1", "c1", Some("u1"), false);
    let (one_did, two_did, again) = tokio::join!(seal_all(&one), seal_all(&two), accept(&one, &repeat));
    assert_eq!(again, Folded::Duplicate { seq });
    // Bodies, two pages, the connection, the refused request.
    assert_eq!(one_did + two_did, 32 + 2 + 1 + 1);
    is_filled(&one, seq).await;
    let rest = "SELECT (SELECT count(*) FROM entry WHERE key IS NULL) + (SELECT count(*) FROM page WHERE key IS NULL)
                + (SELECT count(*) FROM reading WHERE key IS NULL) + (SELECT count(*) FROM refused WHERE key IS NULL)";
    assert_eq!(site.sql(rest), "0");
    assert_eq!(site.sql("SELECT DISTINCT encode(digest, 'hex') FROM entry WHERE seq = 20"), "00".repeat(32));
    one.upkeep.close().await;
    two.upkeep.close().await;

    // And back, on purpose.
    site.sql("DELETE FROM stage WHERE seq = 20; DELETE FROM body WHERE seq = 20; DELETE FROM entry WHERE seq = 20");
    let alone = open(&site.settings).await;
    while !alone.upkeep.unseal(7).await.unwrap().is_done {}
    let told = problem(&alone.intake.accept(new_entry(&body("late", "c1", None, false))).await.unwrap_err());
    assert!(told.contains("was taken away"), "{told}");
    alone.upkeep.close().await;
    let plain = open(&site.with(&[])).await;
    is_filled(&plain, seq).await;
    assert_eq!(accept(&plain, &body("e1", "c1", Some("u1"), false)).await, Folded::Duplicate { seq });
}

/// Rotation: first everybody has the new key, then it is the first, then the old one goes. No body is written anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_wraps_keys_and_touches_no_body() {
    let site = Site::new(Keys::Schema).await;
    let (mut before, mut first) = (None, None);
    for keys in [&[1][..], &[1, 2], &[2, 1], &[2]] {
        let inbox = open(&site.with(keys)).await;
        let seq = match first {
            None => *first.insert(fill(&inbox).await),
            Some(seq) => seq,
        };
        seal_all(&inbox).await;
        is_filled(&inbox, seq).await;
        inbox.upkeep.close().await;
        let bodies = site.sql("SELECT md5(string_agg(bytes::text, ',' ORDER BY seq)) FROM body");
        assert_eq!(*before.get_or_insert_with(|| bodies.clone()), bodies);
    }
    problem(&try_open(&site.with(&[1]), Access::Owner).await.unwrap_err());
}

/// Rows of erased keys come with an old backup of the inbox, or are left by a crash in between: the next start removes them.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_brings_nobody_back() {
    let site = Site::new(Keys::Schema).await;
    let inbox = open(&site.settings).await;
    fill(&inbox).await;
    accept(&inbox, &body("other", "c9", Some("u2"), false)).await;
    inbox.upkeep.close().await;
    site.keys_sql(
        "WITH gone AS (DELETE FROM key WHERE \"user\" = 'u1' OR day IS NOT NULL RETURNING id)
         INSERT INTO erased (id, at) SELECT id, 0 FROM gone",
    );
    let inbox = open(&site.settings).await;
    let ids: Vec<String> =
        inbox.desk.list(&Filter::default(), 10).await.unwrap().iter().map(|entry| entry.event_id.to_string()).collect();
    assert_eq!(ids, ["other"]);
    assert!(held(&inbox, "u1").await.readings.is_empty());
    assert!(inbox.desk.refused(Span::default(), 10).await.unwrap().is_empty());
    all_open(&inbox, 1).await;
}

/// An erasure takes rows, pages, refused requests and keys, and leaves the others of the same day readable for every receiver.
#[rstest]
#[case::schema(Keys::Schema)]
#[case::server(Keys::Server)]
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_erased_with_their_keys(#[case] keys: Keys) {
    let site = Site::new(keys).await;
    let (one, other) = (open(&site.settings).await, open(&site.settings).await);
    fill(&one).await;
    accept(&one, &body("other", "c1", Some("u2"), false)).await;
    refuse(&other, r#"{"resource":{"user_id":"u1","#).await;
    refuse(&other, r#"{"resource":{"user_id":"u2","#).await;
    let before = site.keys_sql("SELECT id FROM key WHERE day IS NOT NULL");
    let erased = other.persons.erase(&Subject::User(event::UserId::new("u1"))).await.unwrap();
    assert_eq!((erased.entries, erased.readings, erased.refused, erased.keys), (2, 1, 1, 2));
    assert!(erased.is_sealed);
    for inbox in [&one, &other] {
        all_open(inbox, 1).await;
        let starts: Vec<String> = inbox
            .desk
            .refused(Span::default(), 10)
            .await
            .unwrap()
            .iter()
            .map(|request| String::from_utf8_lossy(request.start.as_deref().unwrap()).into_owned())
            .collect();
        assert!(starts.len() == 2 && starts[0].contains("u2"), "{starts:?}");
    }
    assert_eq!(site.keys_sql("SELECT count(*) FROM key WHERE \"user\" = 'u1'"), "0");
    assert_eq!(site.keys_sql(&format!("SELECT count(*) FROM erased WHERE id = {before}")), "1", "that of the day too");
    assert_eq!(other.persons.erase(&Subject::User(event::UserId::new("u1"))).await.unwrap().keys, 0);
    refuse(&one, r#"{"resource":{"user_id":"u3","#).await;
    assert_eq!(other.desk.refused(Span::default(), 10).await.unwrap().len(), 3);
}

/// Sealed bodies that change places are not delivered: each is bound to its row.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_body_is_opened_in_its_row_alone() {
    let site = Site::new(Keys::Schema).await;
    let inbox = open(&site.settings).await;
    let mut seqs = Vec::new();
    for id in ["e1", "e2", "e3"] {
        seqs.push(stored(accept(&inbox, &body(id, "c1", Some("u1"), false)).await));
    }
    let [first, second, third] = seqs[..] else { panic!() };
    site.sql(&format!("UPDATE body SET bytes = (SELECT bytes FROM body WHERE seq = {second}) WHERE seq = {first}"));
    site.sql(&format!("UPDATE entry SET key = 5 WHERE seq = {second}"));
    let claimed = inbox.queue.claim(&Stage::deliver("app"), 10, Duration::from_mins(1)).await.unwrap().leases;
    assert_eq!(claimed.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [third]);
    for (seq, reason) in [(first, "not the one that was accepted"), (second, "its key is not in the keys store")] {
        let entry = inbox.desk.list(&Filter { seq: Some(seq), ..Filter::default() }, 1).await.unwrap().remove(0);
        assert_eq!(entry.state, State::Parked);
        assert!(entry.stages[0].reason.as_deref().unwrap().contains(reason), "{entry:?}");
    }
}

/// Without its keys store an inbox takes no events; when that is back it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_keys_store_that_is_away() {
    let mut site = Site::new(Keys::Server).await;
    let inbox = open(&site.settings).await;
    accept(&inbox, &body("e1", "c1", Some("u1"), false)).await;
    site.other.as_mut().unwrap().stop();
    let refused = inbox.intake.accept(new_entry(&body("e2", "c1", Some("u1"), false))).await.unwrap_err();
    assert!(matches!(refused, Error::Away(_)), "{refused:?}");
    eventually("it is not ready", async || inbox.intake.ready().err()).await;
    site.other.as_mut().unwrap().restart().unwrap();
    super::accepted(&inbox, "e3", "c1").await;
    eventually("it is ready", async || inbox.intake.ready().ok()).await;
}
