//! Acceptance: what is stored once, what twice, and under which ids.

use crate::{
    events::{event, new_entry},
    stores::{AcceptFolded, Backend, LEASE, Store, every_back_end, every_shared_back_end, stored},
};
use inbox::{Filter, Folded, NewEntry, Position, Seq, Stage, State, TraceParent};
use rstest_reuse::apply;
use std::time::Duration;

async fn folded(store: &Store, json: &str) -> Folded {
    store.get().intake.accept_folded(new_entry(json)).await.unwrap().folded.unwrap()
}

async fn by_id(store: &Store, id: &str) -> Vec<Seq> {
    store.list_seqs(&Filter { id: Some(id.to_owned()), ..Filter::default() }).await
}

#[apply(every_back_end)]
#[tokio::test]
async fn the_same_content_is_stored_once_other_content_twice(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = event("e1", "7", 1, false);
    let Folded::Stored { seq, conflict: false } = folded(&store, &json).await else { panic!("not stored") };
    assert_eq!(folded(&store, &json).await, Folded::Duplicate { seq });
    let Folded::Stored { seq: other, conflict: true } = folded(&store, &event("e1", "7", 2, false)).await else {
        panic!("other content is another entry")
    };
    assert_eq!(store.list_seqs(&Filter::default()).await, [other, seq]);
    assert!(!store.view(seq).await.conflict && store.view(other).await.conflict);
}

#[apply(every_back_end)]
#[tokio::test]
async fn white_space_between_tokens_is_no_content_and_digits_are(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = |balance: &str| {
        format!(
            r#"{{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS",
                "resource":{{"id":"7","name":"a b","account_count":1,"accounts":[{{"id":"1","balance":{balance}}}]}}}}"#
        )
    };
    let seq = store.accept_json(&json("1.10")).await;
    let pretty = format!("\r\n{}\t", json("1.10").replace(':', " : ").replace(',', " ,\n"));
    assert_eq!(folded(&store, &pretty).await, Folded::Duplicate { seq });
    for other in [json("1.1"), json("1.100"), json("11e-1"), json("1.10").replace("a b", "a  b")] {
        assert!(matches!(folded(&store, &other).await, Folded::Stored { conflict: true, .. }), "{other}");
    }
    let body = store.get().desk.body(seq).await.unwrap().unwrap();
    assert_eq!(body, json("1.10").as_bytes(), "the bytes that came first are kept as they came");
}

#[apply(every_shared_back_end)]
#[tokio::test]
async fn duplicates_at_the_same_time_are_stored_once(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let other = store.another().await;
    let json = event("e1", "7", 1, false);
    let accepts =
        (0..50).map(|n| if n % 2 == 0 { &store.get().intake } else { &other.intake }.accept_folded(new_entry(&json)));
    let answers = futures_util::future::join_all(accepts).await;
    let folded: Vec<Folded> = answers.into_iter().map(|answer| answer.unwrap().folded.unwrap()).collect();
    let new = folded.iter().filter(|folded| matches!(folded, Folded::Stored { conflict: false, .. })).count();
    let repeated = folded.iter().filter(|folded| matches!(folded, Folded::Duplicate { .. })).count();
    assert_eq!((new, repeated), (1, 49));
    assert_eq!(store.list(&Filter::default()).await.len(), 1);
}

#[apply(every_back_end)]
#[tokio::test]
async fn delivery_ids_are_distinct_contain_no_dot_and_are_found(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let first = store.accept_json(&event("a.b~c", "7", 1, false)).await;
    let second = store.accept_json(&event("a.b~c", "7", 2, false)).await;
    let third = store.accept_json(&event("a.b~c", "7", 3, false)).await;
    let id_of = async |seq| store.view(seq).await.delivery_id.as_str().to_owned();
    assert_eq!(id_of(first).await, "a~pb~tc");
    for seq in [second, third] {
        let id = id_of(seq).await;
        let hash = id.strip_prefix("a~pb~tc~").unwrap();
        assert!(hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        assert_eq!(by_id(&store, &id).await, [seq]);
    }
    assert_ne!(id_of(second).await, id_of(third).await);
    assert_eq!(by_id(&store, "a~pb~tc").await, [first]);
    assert_eq!(by_id(&store, "a.b~c").await, [third, second, first], "the event id means all of them");
    for unknown in ["a.b", "a~pb", "a~pb~tc~0000000000000000", "~", "", "A.B~C"] {
        assert_eq!(by_id(&store, unknown).await, [], "{unknown:?}");
    }
    let lease = store.claim_one(&Stage::deliver("app")).await;
    assert_eq!((lease.entry.event_id.as_str(), lease.entry.delivery_id.as_str()), ("a.b~c", "a~pb~tc"));
}

#[apply(every_shared_back_end)]
#[tokio::test]
async fn positions_grow_by_one_with_every_accepted_event(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let position =
        async |store: &Store, json: &str| store.get().intake.accept_folded(new_entry(json)).await.unwrap().position;
    assert_eq!(position(&store, &event("e1", "a", 1, false)).await, Position(1));
    assert_eq!(position(&store, &event("e2", "a", 1, false)).await, Position(2));
    assert_eq!(position(&store, &event("e2", "a", 1, false)).await, Position(3), "a duplicate was accepted too");
    store.crash().await;
    assert_eq!(position(&store, &event("e3", "b", 1, false)).await, Position(4));
    let other = store.another().await;
    let elsewhere = other.intake.accept_folded(new_entry(&event("e4", "b", 1, false))).await.unwrap();
    assert_eq!(elsewhere.position, Position(5), "one record for all receivers");
    let accepts = (0..20)
        .map(|n| store.get().intake.accept_folded(new_entry(&event(&format!("m{n}"), "c", 1, false))))
        .collect::<Vec<_>>();
    let mut together: Vec<u64> =
        futures_util::future::join_all(accepts).await.into_iter().map(|receipt| receipt.unwrap().position.0).collect();
    together.sort_unstable();
    assert_eq!(together, (6..26).collect::<Vec<_>>());
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_accepted_event_is_still_there_after_a_crash(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let json = event("e1", "7", 1, false);
    let seq = store.accept_json(&json).await;
    let identity = store.get().keys.get().unwrap().identity;
    store.crash().await;
    assert_eq!(store.get().keys.get().unwrap().identity, identity);
    assert_eq!(folded(&store, &json).await, Folded::Duplicate { seq });
    assert_eq!(store.claim_one(&Stage::deliver("app")).await.body, json.as_bytes());
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_an_event_says_comes_back(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = event("e1", "7", 2, false);
    let trace = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let entry = NewEntry { trace: trace.clone(), ..new_entry(&json) };
    let seq = stored(store.get().intake.accept_folded(entry.clone()).await.unwrap());

    let view = store.view(seq).await;
    assert_eq!((view.event_id.as_str(), view.connection.as_str()), ("e1", "7"));
    assert_eq!(view.user.as_ref().unwrap().as_str(), "u7");
    assert_eq!(view.channel.as_ref().unwrap().as_str(), "5");
    assert_eq!((view.event_type.as_str(), view.resource_type.as_str()), ("UPDATED", "CONNECTIONS"));
    assert_eq!((view.accepted, view.account_count, view.listed, view.fetched), (entry.received, Some(2), 2, None));
    assert_eq!((view.drift, view.bytes), (None, json.len() as u64));
    assert_eq!(view.sender.as_deref(), Some(r#"{"peer":"127.0.0.1"}"#));

    let lease = store.claim_one(&Stage::deliver("app")).await;
    let facts = &lease.entry;
    assert_eq!((facts.event_id.as_str(), facts.connection.as_str()), ("e1", "7"));
    assert_eq!((facts.event_type.as_str(), facts.resource_type.as_str()), ("UPDATED", "CONNECTIONS"));
    assert_eq!((facts.user.as_ref().unwrap().as_str(), facts.channel.as_ref().unwrap().as_str()), ("u7", "5"));
    assert_eq!((facts.mode.as_deref(), facts.created), (Some("REDIRECT"), Some(1_700_000_005)));
    assert_eq!((facts.accepted, facts.account_count, facts.listed), (entry.received, Some(2), 2));
    assert_eq!((facts.confirm, &facts.trace, facts.fetched), (false, &trace, None));
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_hint_is_fetched_whatever_it_claims(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let entry = NewEntry { confirm: true, ..new_entry(&event("e1", "7", 1, false)) };
    let seq = stored(store.get().intake.accept_folded(entry).await.unwrap());
    assert_eq!(store.claim_seqs(&Stage::deliver("app")).await, []);
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert!(lease.seq == seq && lease.entry.confirm);
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_event_that_nobody_can_complete_is_kept_parked(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let unclear = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS",
                      "resource":{"id":"7","account_count":{}}}"#;
    let (seq, next) = (store.accept_json(unclear).await, store.accept("e2", "7").await);
    let view = store.view(seq).await;
    assert_eq!(view.state, State::Parked);
    let causes: Vec<&str> = view.stages.iter().map(|stage| stage.cause.as_ref().unwrap().as_str()).collect();
    assert_eq!(causes, ["unclear", "needs"]);
    assert!(view.stages[0].reason.as_ref().unwrap().contains("$.resource.account_count is not of the documented type"));
    assert_eq!(store.claim_seqs(&Stage::deliver("app")).await, [next], "it holds nobody up");
}

#[apply(every_back_end)]
#[tokio::test]
async fn work_wakes_its_stage(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    store.accept("e1", "a").await;
    let app = Stage::deliver("app");
    tokio::time::timeout(Duration::from_secs(5), store.get().queue.wake(&app)).await.unwrap();
    let unknown = store.get().queue.claim(&Stage::deliver("other"), 10, LEASE).await.unwrap();
    assert!(unknown.leases.is_empty() && unknown.next_due.is_none(), "a sink that is not configured has no work");
}

/// Larger than the numbers of a store: it is announced all the same, so that what is found differs from it.
#[apply(every_back_end)]
#[tokio::test]
async fn a_number_of_accounts_that_no_store_can_hold_is_not_forgotten(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = event("e1", "a", 150, true).replace("\"account_count\":150", "\"account_count\":18446744073709551615");
    assert!(json.contains("18446744073709551615"), "{json}");
    store.accept_json(&json).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(lease.entry.account_count, Some(i64::MAX.unsigned_abs()));
}
