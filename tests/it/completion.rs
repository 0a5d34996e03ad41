//! Completion, through the whole service and the vendor double over TLS.

use crate::support::{Service, Site, documents, entries, eventually, secrets};
use base::secret::Secret;
use double::{
    ApiVersion, Connection, Endpoint, Fault, Rule, Script, Settings, Simulator, account_json,
    events::{Plan, event},
};
use inbox::{Filter, State};
use serde_json::{Value, value::RawValue};
use std::{fs, path::PathBuf};

/// A service with a file sink, and the vendor double that it completes from.
struct Bank {
    site: Site,
    file: PathBuf,
    simulator: Simulator,
    service: Service,
}

impl Bank {
    async fn open(settings: Settings) -> Self {
        let mut site = Site::new();
        let file = site.file_sink("file");
        let version = match settings.version {
            ApiVersion::V2_1 => "\"v2.1\"",
            ApiVersion::V3 => "\"v3\"",
        };
        site.set("linxo.version", version);
        let simulator = site.simulator(settings).await;
        let service = site.start().await;
        Self { site, file, simulator, service }
    }

    /// Posts a truncated event of a connection.
    async fn post(&self, id: &str, connection: &Connection) {
        let plan = Plan { truncated: true, ..Plan::new(id, connection.clone()) };
        self.service.door.accept(event(&plan)).await;
    }

    /// Waits until all is delivered; returns the one document with this id.
    async fn delivered(&self, id: &str) -> Value {
        let entries = self.service.settled().await;
        assert!(entries.iter().all(|entry| entry.state == State::Done), "{entries:#?}");
        let mut found: Vec<Value> = documents(&self.file).into_iter().filter(|document| document["id"] == id).collect();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// Pages that were asked for, in order, and how each was answered.
    fn pages(&self) -> Vec<(u64, Option<u16>)> {
        let requests = self.simulator.requests();
        requests.iter().filter_map(|request| Some((request.page?, request.status))).collect()
    }
}

/// A bank with one connection.
fn holding(accounts: usize) -> (Settings, Connection) {
    let connection = Connection::numbered(1, accounts);
    (Settings { connections: vec![connection.clone()], ..Settings::default() }, connection)
}

fn ids(document: &Value) -> Vec<String> {
    let id = |account: &Value| match &account["id"] {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    };
    document["data"]["resource"]["accounts"].as_array().unwrap().iter().map(id).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_those_of_the_api_in_both_wire_versions() {
    for version in [ApiVersion::V2_1, ApiVersion::V3] {
        let (settings, connection) = holding(102);
        let bank = Bank::open(Settings { version, ..settings }).await;
        bank.post("e", &connection).await;
        let document = bank.delivered("e").await;
        assert_eq!(ids(&document), bank.simulator.accounts(&connection.id));
        assert_eq!(document["linxocompletion"], "api");
        assert_eq!(document["linxoaccounts"], 102);
        assert_eq!(document.get("linxomismatch"), None);
        // Each account with the very text that the API sent.
        let line = fs::read_to_string(&bank.file).unwrap();
        for number in 0..102 {
            assert!(line.contains(&account_json(&connection.id, number, version, false)), "{version:?} {number}");
        }
        assert_eq!(bank.simulator.counters().tokens, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_may_be_integers() {
    let (settings, connection) = holding(150);
    let script = Script::of([Rule::always(Endpoint::Accounts, Fault::IntegerIds)]);
    let bank = Bank::open(Settings { script, ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    assert_eq!(ids(&document), bank.simulator.accounts(&connection.id));
    assert!(document["data"]["resource"]["accounts"][0]["id"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_size_is_the_servers() {
    let (settings, connection) = holding(23);
    let bank = Bank::open(Settings { page_cap: 7, ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)));
    let mut pages: Vec<u64> = bank.pages().iter().map(|(page, _)| *page).collect();
    pages.sort_unstable();
    assert_eq!(pages, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_ignored_does_no_harm() {
    let connection = Connection::numbered(1, 120);
    let other = Connection { id: "800001".to_owned(), ..Connection::numbered(1, 90) };
    let settings = Settings { connections: vec![connection.clone(), other], ..Settings::default() };
    let script = Script::of([Rule::always(Endpoint::Accounts, Fault::IgnoreFilter)]);
    let bank = Bank::open(Settings { script, ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_changes_is_read_again() {
    let (settings, connection) = holding(250);
    // Before the second page of the first reading: some came, some went.
    let change = Fault::Change { insert: 3, remove: 1 };
    let rule = Rule { page: Some(2), ..Rule::first(1, Endpoint::Accounts, change) };
    let bank = Bank::open(Settings { script: Script::of([rule]), ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)));
    assert_eq!(document["linxoaccounts"], 252);
    assert_eq!(document["linxomismatch"], true, "the event announced 250");
    assert_eq!(bank.service.metric("linxo_webhook_account_mismatch_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_never_holds_still_is_delivered_as_it_is_known_and_says_so() {
    let (settings, connection) = holding(250);
    let rule = Rule::always(Endpoint::Accounts, Fault::Change { insert: 2, remove: 1 });
    let bank = Bank::open(Settings { script: Script::of([rule]), ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    let found = sorted(ids(&document));
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "none comes twice");
    assert!(found.len() > 250);
    assert_eq!(document["linxoaccounts"], found.len());
    assert_eq!(document["linxomismatch"], true);
    let firsts = bank.pages().iter().filter(|(page, _)| *page == 1).count();
    assert_eq!(firsts, 3, "the list is read three times at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_renewed_once() {
    let (settings, connection) = holding(102);
    let bank = Bank::open(settings).await;
    bank.post("first", &connection).await;
    bank.delivered("first").await;
    bank.simulator.expire_tokens();
    bank.simulator.forget_requests();
    bank.post("second", &connection).await;
    bank.delivered("second").await;
    assert_eq!(bank.simulator.counters().tokens, 2);
    let mut pages = bank.pages();
    pages.sort_unstable();
    assert_eq!(pages, [(1, Some(200)), (1, Some(401)), (2, Some(200))]);

    // One that is refused again and again is renewed once with each try.
    bank.simulator.script(Script::of([Rule::always(Endpoint::Accounts, Fault::Unauthorized)]));
    bank.post("third", &connection).await;
    let tried = async || {
        let stage = entries(&bank.service.running.inbox).await.remove(2).stages.remove(0);
        let is_tried = stage.attempts == 2 && stage.state == State::Waiting;
        is_tried.then(|| stage.reason.unwrap())
    };
    let reason = eventually("a second try", tried).await;
    assert!(reason.contains("401"), "{reason}");
    assert_eq!(bank.simulator.counters().tokens, 2 + 2);
    bank.simulator.script(Script::default());
    bank.delivered("third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_pages_that_are_kept_are_not_asked_for_again() {
    let (settings, connection) = holding(450);
    let failing = Fault::Status { status: 503, retry_after: None, html: true };
    let rule = Rule { page: Some(4), ..Rule::first(2, Endpoint::Accounts, failing) };
    let bank = Bank::open(Settings { script: Script::of([rule]), ..settings }).await;
    bank.post("e", &connection).await;
    let document = bank.delivered("e").await;
    assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)));
    let of =
        |page| bank.pages().iter().filter(|(asked, _)| *asked == page).map(|(_, status)| status.unwrap()).collect();
    let answers: Vec<Vec<u16>> = (1..=5).map(of).collect();
    assert_eq!(answers, [vec![200], vec![200], vec![200], vec![503, 503, 200], vec![200]]);
    let entry = &bank.service.running.inbox.desk.list(&Filter::default(), 1).await.unwrap()[0];
    assert_eq!(entry.stages[0].attempts, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_reading_keeps_its_pages() {
    let (settings, connection) = holding(450);
    let mut site = Site::new();
    let file = site.file_sink("file");
    let stuck = Rule { page: Some(4), ..Rule::first(1, Endpoint::Accounts, Fault::StallHead { ms: 3_600_000 }) };
    let simulator = site.simulator(Settings { script: Script::of([stuck]), ..settings }).await;
    let process = site.spawn().await;
    let plan = Plan { truncated: true, ..Plan::new("e", connection.clone()) };
    process.door.accept(event(&plan)).await;
    let inbox = site.inbox();
    // The first reading of a new inbox.
    let reading = inbox::ReadingId(1);
    // The last is read when all others are held.
    eventually("three of five pages are kept", async || {
        (inbox.shelf.pages(reading).await.unwrap_or_default().len() == 3).then_some(())
    })
    .await;
    process.kill().await;
    simulator.forget_requests();
    let process = site.spawn().await;
    let entries = crate::support::settled(&inbox).await;
    assert_eq!(entries[0].state, State::Done, "{entries:#?}");
    let document = documents(&file).remove(0);
    assert_eq!(sorted(ids(&document)), sorted(simulator.accounts(&connection.id)));
    let pages: Vec<_> = simulator.requests().iter().filter_map(|request| request.page).collect();
    // The one that hung is noted when its caller is found dead: before or after the journal was cleared.
    assert!(pages.ends_with(&[4, 5]) && pages.iter().all(|page| *page >= 4), "{pages:?}");
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_truncated_events_are_parked_until_there_is_one() {
    let (settings, connection) = holding(102);
    let mut site = Site::new();
    let file = site.file_sink("file");
    let simulator = site.simulator(settings).await;
    let configured = site.config();
    assert!(configured.linxo.is_some());
    let mut without = configured.clone();
    without.linxo = None;
    let mut running = Box::pin(linxo_webhook::app::start(without)).await.unwrap();
    let door = site.door(running.address);
    door.accept(event(&Plan::new("e", connection.clone()))).await;
    let entries = crate::support::settled(&running.inbox).await;
    assert_eq!(entries[0].state, State::Parked);
    assert_eq!(
        entries[0].stages[0].reason.as_deref(),
        Some(
            "the event leaves out its 102 accounts and there is no [linxo] section to fetch them with: add one and restart"
        )
    );
    running.drain();
    assert_eq!(running.ended().await, linxo_webhook::app::Ended::Drained);
    drop(running);

    let service = site.start().await;
    let is_done = async || (service.settled().await[0].state == State::Done).then_some(());
    eventually("the parked event is put back in line by itself", is_done).await;
    assert_eq!(ids(&documents(&file)[0]), simulator.accounts(&connection.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fixed_token_needs_no_token_request() {
    let (settings, connection) = holding(102);
    let mut site = Site::new();
    let file = site.file_sink("file");
    let fixed_token = Some(Secret::new(secrets::ADMIN.to_owned()));
    let simulator = site.simulator(Settings { fixed_token, ..settings }).await;
    site.unset("linxo.client").set("linxo.users.mode", "\"static\"").secret("linxo.users.token", secrets::ADMIN);
    let service = site.start().await;
    service.door.accept(event(&Plan::new("e", connection.clone()))).await;
    assert_eq!(service.settled().await[0].state, State::Done);
    assert_eq!(ids(&documents(&file)[0]), simulator.accounts(&connection.id));
    assert_eq!(simulator.counters().tokens, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_connection_that_wait_together_share_a_reading() {
    let (settings, connection) = holding(250);
    let failing = Fault::Status { status: 503, retry_after: Some("1".to_owned()), html: false };
    let script = Script::of([Rule::first(1, Endpoint::Accounts, failing)]);
    let bank = Bank::open(Settings { script, ..settings }).await;
    bank.post("first", &connection).await;
    eventually("the first attempt failed", async || (bank.pages().len() == 1).then_some(())).await;
    bank.simulator.forget_requests();
    bank.post("second", &connection).await;
    let (first, second) = (bank.delivered("first").await, bank.delivered("second").await);
    for document in [first, second] {
        assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)));
    }
    let of_one_reading = 3;
    let asked = bank.pages().len();
    // The reading that failed began before the second event was accepted, so it cannot serve that one.
    assert!(asked <= 2 * of_one_reading, "{asked}");
    bank.simulator.forget_requests();

    // Accepted both before their reading begins: one reading serves both.
    let bank = bank.receive_only().await;
    bank.post("third", &connection).await;
    bank.post("fourth", &connection).await;
    let bank = bank.work_again().await;
    let (third, fourth) = (bank.delivered("third").await, bank.delivered("fourth").await);
    assert_eq!(third["data"]["resource"]["accounts"], fourth["data"]["resource"]["accounts"]);
    assert_eq!(bank.pages().len(), of_one_reading);
}

impl Bank {
    /// Goes on without workers.
    async fn receive_only(self) -> Self {
        self.with_concurrency(0).await
    }

    /// Goes on with workers.
    async fn work_again(self) -> Self {
        self.with_concurrency(32).await
    }

    async fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.service.stop().await;
        self.site.set("worker.concurrency", concurrency);
        let service = self.site.start().await;
        Self { service, ..self }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_go_where_the_event_leaves_room_for_them() {
    let (settings, connection) = holding(3);
    let bank = Bank::open(settings).await;
    // Without the member, with null, in the middle, with white space.
    for (id, accounts) in [("a", ""), ("b", ",\"accounts\":null"), ("c", ",\"accounts\": [ ] ,\"later\": 0.10")] {
        let body = format!(
            r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"{}","user_id":"{}","account_count":3{accounts}}},"x":1}}"#,
            connection.id, connection.user
        );
        bank.service.door.accept(&body).await;
        let document = bank.delivered(id).await;
        assert_eq!(sorted(ids(&document)), sorted(bank.simulator.accounts(&connection.id)), "{id}");
        assert_eq!(document["data"]["x"], 1);
    }
    let raw = fs::read_to_string(&bank.file).unwrap();
    assert!(raw.contains(r#"],"later":0.10}"#));
    for line in raw.lines() {
        serde_json::from_str::<&RawValue>(line).unwrap();
    }
}
