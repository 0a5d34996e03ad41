//! Parked work: why it is parked, who puts it back, and what goes on by itself.

use crate::{
    events::{found, park, park_for_credentials},
    stores::{Backend, LEASE, Store, every_back_end, in_state, only, only_at},
};
use event::{ConnectionId, UserId};
use inbox::{Awaiting, Cause, CredentialsMark, Filter, Outcome, Resume, Seq, Stage, StageView, State};
use rstest_reuse::apply;

/// What one stage of an entry is parked for.
async fn cause(store: &Store, seq: Seq, stage: &Stage) -> Option<Cause> {
    stage_view(store, seq, stage).await.cause
}

async fn stage_view(store: &Store, seq: Seq, stage: &Stage) -> StageView {
    store.view(seq).await.stages.into_iter().find(|view| view.stage == *stage).unwrap()
}

/// Everything that waits for other credentials than those that the mark stands for.
fn all(mark: &str) -> Resume {
    Resume { credentials: CredentialsMark::new(mark), user: None, connection: None }
}

/// Accepts an event of this connection and parks its fetch for its credentials.
async fn park_fetch(store: &Store, id: &str, connection: &str, mark: &str) -> Seq {
    let seq = store.accept_truncated(id, connection).await;
    let leases = store.claim(&Stage::ACCOUNTS).await;
    let lease = leases.iter().find(|lease| lease.seq == seq).unwrap();
    store.settle(lease, park_for_credentials(mark)).await;
    seq
}

#[apply(every_back_end)]
#[tokio::test]
async fn each_cause_comes_back_and_ends_with_a_replay(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let causes = [
        Cause::Unclear,
        Cause::Needs,
        Cause::Refused,
        Cause::Outage,
        Cause::Gone,
        Cause::GaveUp,
        Cause::Limit,
        Cause::Unconfirmed,
        Cause::Credentials(CredentialsMark::new("mark")),
        Cause::Lost,
        Cause::Damaged,
        Cause::Operator,
    ];
    for (number, cause_of_parking) in causes.into_iter().enumerate() {
        let seq = store.accept(&format!("e{number}"), "a").await;
        let lease = store.claim_one(&app).await;
        let reason = format!("reason {number}");
        store.settle(&lease, Outcome::Park { cause: cause_of_parking.clone(), reason: reason.clone() }).await;
        let view = stage_view(&store, seq, &app).await;
        assert_eq!((view.state, view.cause, view.reason), (State::Parked, Some(cause_of_parking), Some(reason)));
        assert!(view.due.is_none() && !view.is_queued && view.attempts == 1);
        assert_eq!(store.replay(&only(seq)).await, 1);
        let view = stage_view(&store, seq, &app).await;
        assert_eq!((view.state, view.cause, view.reason, view.attempts), (State::Waiting, None, None, 0));
        let lease = store.claim_one(&app).await;
        store.settle(&lease, Outcome::Done).await;
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_parked_fetch_parks_its_deliveries_and_is_replayed_with_them(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (cut, whole) = (store.accept_truncated("e1", "a").await, store.accept("e2", "a").await);
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park("no [linxo] section")).await;
    assert_eq!(store.claim_seqs(&app).await, [whole], "later entries go on");
    let entry = store.list(&in_state(State::Parked)).await.remove(0);
    assert_eq!(entry.seq, cut);
    assert_eq!(entry.stages[0].reason.as_deref(), Some("no [linxo] section"));
    assert_eq!(cause(&store, cut, &app).await, Some(Cause::Needs));
    assert_eq!(store.replay(&only(cut)).await, 1);
    assert_eq!(store.claim_seqs(&Stage::ACCOUNTS).await, [cut]);
    assert!(store.claim(&app).await.is_empty());
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_operator_parks_a_whole_entry_or_one_sink_of_it(backend: Backend) {
    let store = Store::new(backend, &["one", "two"]).await;
    let (one, two) = (Stage::deliver("one"), Stage::deliver("two"));
    let (first, cut) = (store.accept("e1", "a").await, store.accept_truncated("e2", "b").await);
    assert_eq!(store.park(&only_at(first, "one")).await, 1);
    assert_eq!(cause(&store, first, &one).await, Some(Cause::Operator));
    assert_eq!(stage_view(&store, first, &one).await.reason.as_deref(), Some("by hand"));
    assert_eq!(store.claim_seqs(&two).await, [first], "the other sink goes on");
    assert_eq!(store.park(&only_at(first, "one")).await, 0, "it is parked already");

    let fetching = store.claim_one(&Stage::ACCOUNTS).await;
    assert_eq!(store.park(&only(cut)).await, 1);
    assert_eq!(cause(&store, cut, &Stage::ACCOUNTS).await, Some(Cause::Operator));
    assert_eq!(cause(&store, cut, &one).await, Some(Cause::Needs));
    let settled = store.get().queue.settle(&[(&fetching, Outcome::Gone)]).await.remove(0);
    assert!(settled.is_err(), "whoever worked on it has to stop");
}

#[apply(every_back_end)]
#[tokio::test]
async fn a_replay_of_one_sink_leaves_the_others_as_they_are(backend: Backend) {
    let store = Store::new(backend, &["one", "two"]).await;
    let (one, two) = (Stage::deliver("one"), Stage::deliver("two"));
    let seq = store.accept("e1", "a").await;
    for stage in [&one, &two] {
        let lease = store.claim_one(stage).await;
        store.settle(&lease, Outcome::Done).await;
    }
    assert_eq!(store.replay(&only_at(seq, "two")).await, 1);
    assert_eq!(store.claim_seqs(&one).await, []);
    assert_eq!(store.claim_seqs(&two).await, [seq]);
    assert_eq!(store.replay(&only_at(seq, "two")).await, 0, "it is in line already");

    // Where the fetch is parked, its deliveries cannot go without it: what waits for it at other sinks goes on too, and what
    // an operator parked there does not.
    let cut = store.accept_truncated("e2", "b").await;
    store.park(&only_at(cut, "two")).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park("403")).await;
    assert_eq!(store.replay(&only_at(cut, "one")).await, 1);
    assert_eq!(stage_view(&store, cut, &Stage::ACCOUNTS).await.state, State::Waiting);
    assert_eq!(stage_view(&store, cut, &one).await.state, State::Waiting);
    assert_eq!(cause(&store, cut, &two).await, Some(Cause::Operator));
}

#[apply(every_back_end)]
#[tokio::test]
async fn other_credentials_put_back_the_fetch_and_what_needs_it(backend: Backend) {
    let store = Store::new(backend, &["one", "two"]).await;
    let (one, two) = (Stage::deliver("one"), Stage::deliver("two"));
    let waits = park_fetch(&store, "e1", "a", "old").await;
    // Of this one, an operator parked a delivery before.
    let half = store.accept_truncated("e2", "b").await;
    store.park(&only_at(half, "two")).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park_for_credentials("old")).await;
    // Of this one, the fetch itself.
    let by_hand = store.accept_truncated("e3", "c").await;
    store.park(&only(by_hand)).await;
    let other = park_fetch(&store, "e4", "d", "newer").await;
    let refused = store.accept_truncated("e5", "e").await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park("403")).await;

    assert_eq!(store.get().queue.resume(&all("old"), 10).await.unwrap(), 2);
    for seq in [waits, half] {
        assert_eq!(stage_view(&store, seq, &Stage::ACCOUNTS).await.state, State::Waiting);
        assert_eq!(stage_view(&store, seq, &one).await.state, State::Waiting);
    }
    assert_eq!(stage_view(&store, waits, &two).await.state, State::Waiting);
    assert_eq!(cause(&store, half, &two).await, Some(Cause::Operator));
    assert_eq!(cause(&store, by_hand, &Stage::ACCOUNTS).await, Some(Cause::Operator));
    assert_eq!(cause(&store, by_hand, &one).await, Some(Cause::Needs));
    assert_eq!(cause(&store, other, &Stage::ACCOUNTS).await, Some(Cause::Credentials(CredentialsMark::new("newer"))));
    assert_eq!(cause(&store, refused, &Stage::ACCOUNTS).await, Some(Cause::Refused));
    assert_eq!(store.get().queue.resume(&all("old"), 10).await.unwrap(), 0, "nothing waits any more");

    let leases = store.claim(&Stage::ACCOUNTS).await;
    assert_eq!(leases.iter().map(|lease| lease.seq).collect::<Vec<_>>(), [waits, half]);
    for lease in &leases {
        let reading = store.get().readings.find_or_begin(lease, LEASE).await.unwrap();
        store.settle(lease, Outcome::Fetched { reading: reading.id, found: found(0) }).await;
    }
    assert_eq!(store.claim_seqs(&one).await, [waits, half]);
    assert_eq!(store.claim_seqs(&two).await, [waits]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn what_waits_for_credentials_is_told_once_and_resumed_by_user_and_connection(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let awaiting = |user: &str, connection: &str, mark: &str| Awaiting {
        user: Some(UserId::new(user)),
        connection: ConnectionId::new(connection),
        credentials: CredentialsMark::new(mark),
    };
    let a1 = park_fetch(&store, "e1", "a", "old").await;
    let a2 = park_fetch(&store, "e2", "a", "old").await;
    let b = park_fetch(&store, "e3", "b", "old").await;
    let c = park_fetch(&store, "e4", "c", "newer").await;
    let queue = &store.get().queue;
    let mut told = queue.awaiting(None).await.unwrap();
    told.sort_by_key(|awaiting| awaiting.connection.clone());
    assert_eq!(told, [awaiting("ua", "a", "old"), awaiting("ub", "b", "old"), awaiting("uc", "c", "newer")]);
    assert_eq!(queue.awaiting(Some(&UserId::new("ub"))).await.unwrap(), [awaiting("ub", "b", "old")]);
    assert_eq!(queue.awaiting(Some(&UserId::new("nobody"))).await.unwrap(), []);

    let of = |user: Option<&str>, connection: Option<&str>| Resume {
        user: user.map(UserId::new),
        connection: connection.map(ConnectionId::new),
        ..all("old")
    };
    assert_eq!(queue.resume(&of(Some("ub"), Some("a")), 10).await.unwrap(), 0);
    assert_eq!(queue.resume(&of(Some("ub"), None), 10).await.unwrap(), 1);
    assert_eq!(store.claim_seqs(&Stage::ACCOUNTS).await, [b]);
    assert_eq!(queue.resume(&of(None, Some("a")), 1).await.unwrap(), 1, "no more at once than asked for");
    assert_eq!(store.claim_seqs(&Stage::ACCOUNTS).await, [a1], "the oldest first");
    assert_eq!(queue.resume(&of(None, Some("a")), 1).await.unwrap(), 1);
    assert_eq!(store.state(a2).await, State::Waiting);
    assert_eq!(store.state(c).await, State::Parked);
    assert_eq!(queue.awaiting(None).await.unwrap(), [awaiting("uc", "c", "newer")]);
}

#[apply(every_back_end)]
#[tokio::test]
async fn an_event_without_a_user_waits_for_credentials_too(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let json = r#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS",
                   "resource":{"id":"a","account_count":3}}"#;
    let seq = store.accept_json(json).await;
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park_for_credentials("old")).await;
    let told = store.get().queue.awaiting(None).await.unwrap();
    assert_eq!((told.len(), &told[0].user), (1, &None));
    assert_eq!(store.get().queue.resume(&all("old"), 10).await.unwrap(), 1);
    assert_eq!(store.list_seqs(&Filter { state: Some(State::Waiting), ..Filter::default() }).await, [seq]);
}
