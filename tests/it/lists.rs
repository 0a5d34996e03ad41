//! Lists of accounts: read once for all who need them, gone on with after a restart, and whole although they change.

use crate::{
    support::{event_json, inbox_config, new_entry},
    support_api::{Service, assert_complete, connection, ids, truncated, until},
};
use linxo_webhook::{
    inbox::{Access, Inbox, Sqlite},
    simulator::{Endpoint, Fault, Rule, Script, Settings},
};
use proptest::{prelude::*, test_runner::TestRunner};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_was_announced_far_too_long_is_not_asked_for_to_its_announced_end() {
    let settings = Settings { connections: vec![connection("7", 102)], ..Settings::default() };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 1_000_000)).await;
    let delivery = &service.delivered(1).await[0];
    assert_eq!((ids(delivery).len(), &delivery["linxomismatch"]), (102, &true.into()));
    assert!(service.asked(Endpoint::Accounts) < 40, "{}", service.asked(Endpoint::Accounts));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_are_shared() {
    let settings = Settings { connections: vec![connection("7", 250)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    // Both are there before the list is read.
    let path = service.path("inbox.db");
    let inbox = Sqlite::open(&path, &inbox_config(), &["lines".to_owned()], Access::Owner).unwrap();
    for id in ["a", "b", "c"] {
        inbox.accept(new_entry(&event_json(id, "7", 250, true))).await.unwrap();
    }
    inbox.close().await;
    drop(inbox);
    service.run().await;
    for delivery in service.delivered(3).await {
        assert_complete(&service.simulator, &delivery);
    }
    assert_eq!(service.asked(Endpoint::Accounts), 3);
    // A later event is not older than that reading.
    service.accept(&event_json("d", "7", 250, true)).await;
    service.delivered(4).await;
    assert_eq!(service.asked(Endpoint::Accounts), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_list_was_left() {
    let settings = Settings {
        connections: vec![connection("7", 1000)],
        script: Script::of([Rule {
            page: Some(7),
            ..Rule::always(Endpoint::Accounts, Fault::Status { status: 500, retry_after: None, html: false })
        }]),
        ..Settings::default()
    };
    let mut service = Service::start(settings, "").await;
    service.accept(&truncated("7", 1000)).await;
    until("a failure", async || (service.asked_page(7) > 1).then_some(())).await;
    service.stop().await;
    service.simulator.script(Script::default());
    service.run().await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    for page in [1, 2, 3, 4, 5, 6, 8, 9, 10] {
        assert_eq!(service.asked_page(page), 1, "page {page}");
    }
}

/// How a list changes while it is read: before which request how many come and go.
type Changes = Vec<(u64, u32, u32)>;

async fn deliver_changing(service: &Service, id: &str, accounts: usize, changes: &Changes) -> serde_json::Value {
    service.simulator.put_connection(&connection(id, accounts));
    let rule = |(call, insert, remove): &(u64, u32, u32)| Rule {
        call: Some(*call),
        connection: Some(id.to_owned()),
        ..Rule::always(Endpoint::Accounts, Fault::Change { insert: *insert, remove: *remove })
    };
    service.simulator.script(Script::of(changes.iter().map(rule).collect::<Vec<_>>()));
    let before = service.deliveries().len();
    service.accept(&truncated(id, accounts)).await;
    service.delivered(before + 1).await.pop().unwrap()
}

/// What must hold however the list changes.
fn assert_sound(service: &Service, id: &str, announced: usize, delivery: &serde_json::Value) {
    let delivered = ids(delivery);
    assert_eq!(delivery["subject"], id);
    assert!(delivered.iter().all(|account| account.starts_with(id)), "an account of another connection");
    assert_eq!(delivery["linxoaccounts"], delivered.len());
    assert_eq!(delivery.get("linxomismatch").is_some(), delivered.len() != announced);
    let missing: Vec<_> =
        service.simulator.accounts_throughout(id).into_iter().filter(|id| !delivered.contains(id)).collect();
    assert!(missing.is_empty(), "existed throughout and are missing: {missing:?}");
}

/// Lists that change while they are read. With `reread = "always"` in any way; else in one direction at a time, because
/// what goes and what comes can hide each other.
fn changing_lists(reread: &str, changes: impl Strategy<Value = Changes>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let settings = Settings { connections: Vec::new(), page_cap: 5, ..Settings::default() };
    let service = runtime.block_on(Service::start(settings, &format!("reread = \"{reread}\"\npage_concurrency = 2")));
    let number = std::cell::Cell::new(7000);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&(1_usize..40, changes), |(accounts, changes)| {
            number.set(number.get() + 1);
            let id = number.get().to_string();
            let delivery = runtime.block_on(deliver_changing(&service, &id, accounts, &changes));
            assert_sound(&service, &id, accounts, &delivery);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn no_account_that_stays_is_lost_where_every_list_is_read_twice() {
    changing_lists("always", prop::collection::vec((1_u64..14, 0_u32..3, 0_u32..3), 0..4));
}

#[test]
fn no_account_that_stays_is_lost_where_accounts_only_come_or_only_go() {
    let one_way = prop_oneof![
        prop::collection::vec((1_u64..10, 1_u32..3, Just(0_u32)), 0..4),
        prop::collection::vec((1_u64..10, Just(0_u32), 1_u32..3), 0..4),
    ];
    changing_lists("doubt", one_way);
}
