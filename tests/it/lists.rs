//! Lists of accounts: read once for all who need them, gone on with after a restart, and whole although they change.

use crate::{
    support::{event_json, inbox_at, new_entry},
    support_api::{Service, assert_complete, connection, ids, truncated, until},
};
use double::{Endpoint, Fault, Rule, Script, Settings};
use inbox::{Access, NewEntry, SinkName};
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

/// Law 6: nothing is wrong with a long list, and it holds up nobody all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_gives_its_slot_to_those_who_wait() {
    let settings = Settings {
        connections: vec![connection("7", 6_000), connection("8", 102)],
        script: Script::of([Rule::always(Endpoint::Accounts, Fault::Delay { ms: 100 })]),
        ..Settings::default()
    };
    let service = Service::start(settings, "page_concurrency = 1\n[worker]\nconcurrency = 1").await;
    service.accept(&truncated("7", 6_000)).await;
    until("the long list is read", async || (service.asked_page(2) > 0).then_some(())).await;
    service.accept(&truncated("8", 102)).await;
    let delivered = service.delivered(2).await;
    assert_eq!(delivered.iter().map(|delivery| &delivery["id"]).collect::<Vec<_>>(), ["e8", "e7"]);
    for delivery in delivered {
        assert_complete(&service.simulator, &delivery);
    }
    // What was read in its first turn is not asked for again, but for what was on its way.
    assert!(service.asked(Endpoint::Accounts) < 75, "{}", service.asked(Endpoint::Accounts));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_are_shared() {
    let settings = Settings { connections: vec![connection("7", 250)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    // Both are there before the list is read.
    let path = service.path("inbox.db");
    let inbox = inbox::open(&inbox_at(&path), &[SinkName::new("lines")], Access::Owner).unwrap();
    for id in ["a", "b", "c"] {
        inbox.intake.accept(new_entry(&event_json(id, "7", 250, true))).await.unwrap();
    }
    inbox.upkeep.close().await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_serves_two_events_is_compared_with_what_each_announced() {
    let settings = Settings { connections: vec![connection("7", 150)], ..Settings::default() };
    let mut service = Service::set(settings, "").await;
    let path = service.path("inbox.db");
    let inbox = inbox::open(&inbox_at(&path), &[SinkName::new("lines")], Access::Owner).unwrap();
    for (id, announced) in [("a", 150), ("b", 160), ("c", 160), ("d", 150)] {
        inbox.intake.accept(new_entry(&event_json(id, "7", announced, true))).await.unwrap();
    }
    inbox.upkeep.close().await;
    drop(inbox);
    service.run().await;
    for (delivery, is_other) in service.delivered(4).await.iter().zip([false, true, true, false]) {
        assert_eq!((ids(delivery).len(), &delivery["linxoaccounts"]), (150, &150.into()));
        assert_eq!(delivery.get("linxomismatch").is_some(), is_other, "{}", delivery["id"]);
    }
    assert_eq!(service.figure("linxo_webhook_account_mismatch_total"), 2);
    // Once for the first; twice, and on to the empty page, for the second. That serves the others: two readings that agree
    // say what there is.
    assert_eq!(service.asked(Endpoint::Accounts), 2 + 2 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_list_may_be_an_unknown_page() {
    let unknown = Rule { page: Some(2), ..Rule::always(Endpoint::Accounts, Fault::UnknownConnection) };
    let settings =
        Settings { connections: vec![connection("7", 100)], script: Script::of([unknown]), ..Settings::default() };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 100)).await;
    assert_complete(&service.simulator, &service.delivered(1).await[0]);
    assert_eq!((service.asked_page(1), service.asked_page(2)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_held_still_says_so_although_the_number_is_the_announced_one() {
    // Five accounts; then another in the place of one of them; then one less: six were seen, and six announced.
    let rule = |call, insert, remove| Rule {
        page: Some(1),
        call: Some(call),
        ..Rule::always(Endpoint::Accounts, Fault::Change { insert, remove })
    };
    let script = Script::of([rule(2, 1, 1), rule(3, 0, 1)]);
    let settings = Settings { connections: vec![connection("7", 5)], script, ..Settings::default() };
    let service = Service::start(settings, "").await;
    service.accept(&truncated("7", 6)).await;
    let delivery = &service.delivered(1).await[0];
    assert_eq!((ids(delivery).len(), service.simulator.accounts("7").len()), (6, 4));
    assert_eq!((&delivery["linxoaccounts"], &delivery["linxomismatch"]), (&6.into(), &true.into()));
    assert_eq!(service.figure("linxo_webhook_account_mismatch_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_other_connections_are_bounded_too() {
    for (bound, reason) in [
        ("max_accounts = 1000", "more accounts of other connections than linxo.max_accounts allows (1000)"),
        ("max_size = \"10 KiB\"", "larger than linxo.max_size allows"),
    ] {
        let mut other = connection("8", 1_000_000);
        "u7".clone_into(&mut other.user);
        let pages = Fault::IgnoreLimit { size: Some(700) };
        let settings = Settings {
            connections: vec![connection("7", 1), other],
            script: Script::of([Fault::IgnoreFilter, pages].map(|fault| Rule::always(Endpoint::Accounts, fault))),
            ..Settings::default()
        };
        let service = Service::start(settings, bound).await;
        service.accept(&truncated("7", 150)).await;
        let parked = service.parked(1).await;
        assert!(parked[0].contains(reason), "{parked:?}");
        assert!(service.asked(Endpoint::Accounts) < 20, "{}", service.asked(Endpoint::Accounts));
    }
}

/// How a list changes while it is read: before which request how many come and go.
type Changes = Vec<(u64, u32, u32)>;

async fn deliver_changing(
    service: &Service,
    id: &str,
    accounts: usize,
    confirm: bool,
    changes: &Changes,
) -> serde_json::Value {
    service.simulator.put_connection(&connection(id, accounts));
    let rule = |(call, insert, remove): &(u64, u32, u32)| Rule {
        call: Some(*call),
        connection: Some(id.to_owned()),
        ..Rule::always(Endpoint::Accounts, Fault::Change { insert: *insert, remove: *remove })
    };
    service.simulator.script(Script::of(changes.iter().map(rule).collect::<Vec<_>>()));
    let before = service.deliveries().len();
    let entry = NewEntry { confirm, ..new_entry(&truncated(id, accounts)) };
    service.running().inbox.intake.accept(entry).await.unwrap();
    service.delivered(before + 1).await.pop().unwrap()
}

/// What must hold however the list changes.
fn assert_sound(service: &Service, id: &str, announced: Option<usize>, delivery: &serde_json::Value) {
    let delivered = ids(delivery);
    assert_eq!(delivery["subject"], id);
    assert!(delivered.iter().all(|account| account.starts_with(id)), "an account of another connection");
    assert_eq!(delivery["linxoaccounts"], delivered.len());
    // Said also where the list never held still.
    let is_other = announced.is_some_and(|announced| announced != delivered.len());
    assert!(delivery.get("linxomismatch").is_some() || !is_other);
    let missing: Vec<_> =
        service.simulator.accounts_throughout(id).into_iter().filter(|id| !delivered.contains(id)).collect();
    assert!(missing.is_empty(), "existed throughout and are missing: {missing:?}");
}

/// Lists that change while they are read. With `reread = "always"`, and of hints, in any way; else in one direction at a
/// time, because what goes and what comes can hide each other.
fn changing_lists(reread: &str, confirm: bool, changes: impl Strategy<Value = Changes>) {
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
            let delivery = runtime.block_on(deliver_changing(&service, &id, accounts, confirm, &changes));
            assert_sound(&service, &id, (!confirm).then_some(accounts), &delivery);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn no_account_that_stays_is_lost_where_every_list_is_read_twice() {
    changing_lists("always", false, prop::collection::vec((1_u64..14, 0_u32..3, 0_u32..3), 0..4));
}

#[test]
fn no_account_that_stays_is_lost_where_events_are_only_hints() {
    changing_lists("doubt", true, prop::collection::vec((1_u64..14, 0_u32..3, 0_u32..3), 0..4));
}

#[test]
fn no_account_that_stays_is_lost_where_accounts_only_come_or_only_go() {
    let one_way = prop_oneof![
        prop::collection::vec((1_u64..10, 1_u32..3, Just(0_u32)), 0..4),
        prop::collection::vec((1_u64..10, Just(0_u32), 1_u32..3), 0..4),
    ];
    changing_lists("doubt", false, one_way);
}
