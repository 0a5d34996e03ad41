//! Retention, figures, and the list of refused requests.

use crate::{
    events::park,
    stores::{Backend, Store, every_back_end, only, only_at},
};
use base::clock::{self, Timestamp};
use inbox::{Filter, Outcome, Refused, Span, Stage};
use rstest_reuse::apply;
use std::time::Duration;

#[apply(every_back_end)]
#[tokio::test]
async fn nothing_unfinished_is_purged_or_expired(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (done, waiting) = (store.accept("e1", "a").await, store.accept("e2", "b").await);
    let lease = store.get().queue.claim(&app, 1, Duration::from_mins(1)).await.unwrap().leases.remove(0);
    assert_eq!(lease.seq, done);
    store.settle(&lease, Outcome::Done).await;
    let later = clock::now().after(Duration::from_secs(1));
    assert_eq!(store.get().upkeep.expire(later, 100).await.unwrap().deleted, 1);
    assert_eq!(store.purge(&Filter::default()).await, 0);
    assert_eq!(store.list_seqs(&Filter::default()).await, [waiting]);
    assert!(store.accept("e3", "c").await > waiting, "numbers are never used again");
}

#[apply(every_back_end)]
#[tokio::test]
async fn entries_expire_when_they_were_settled_long_ago_and_parked_ones_never(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    let (old, parked, late) =
        (store.accept("e1", "a").await, store.accept("e2", "b").await, store.accept("e3", "c").await);
    let leases = store.claim(&app).await;
    for (lease, outcome) in leases.iter().zip([Outcome::Done, park("410")]) {
        store.settle(lease, outcome).await;
    }
    store.let_pass(Duration::from_hours(2)).await;
    store.settle(&leases[2], Outcome::Done).await;
    let cutoff = clock::now().before(Duration::from_hours(1));
    let upkeep = &store.get().upkeep;
    assert_eq!(upkeep.stats().await.unwrap().oldest_unfinished, None);
    assert_eq!(upkeep.expire(cutoff, 100).await.unwrap().deleted, 1);
    assert_eq!(store.list_seqs(&Filter::default()).await, [late, parked], "{old} is gone");
    store.let_pass(Duration::from_hours(2)).await;
    assert_eq!(upkeep.expire(cutoff, 0).await.unwrap().deleted, 0, "no more at once than asked for");
    assert_eq!(upkeep.expire(cutoff, 100).await.unwrap().deleted, 1);
    assert_eq!(store.list_seqs(&Filter::default()).await, [parked]);
}

/// Parked entries may stand in front of what is to expire for months.
#[apply(every_back_end)]
#[tokio::test]
async fn entries_expire_behind_any_number_of_parked_ones(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let app = Stage::deliver("app");
    // One more than a single look takes in.
    let parked = 5_001;
    for number in 0..parked {
        store.accept(&format!("p{number}"), &number.to_string()).await;
    }
    let batch = store.get().desk.park(&Filter::default(), parked, "by hand").await.unwrap();
    assert_eq!(batch.changed, 5_001);
    let done = store.accept("done", "a").await;
    let lease = store.claim(&app).await.pop().unwrap();
    assert_eq!(lease.seq, done);
    store.settle(&lease, Outcome::Done).await;
    let (later, mut deleted, mut looks) = (clock::now().after(Duration::from_secs(1)), 0, 0);
    loop {
        let expired = store.get().upkeep.expire(later, 100).await.unwrap();
        (deleted, looks) = (deleted + expired.deleted, looks + 1);
        if expired.is_done {
            break;
        }
    }
    assert_eq!((deleted, looks), (1, 2));
}

#[apply(every_back_end)]
#[tokio::test]
async fn figures_count_what_is_unfinished(backend: Backend) {
    let store = Store::new(backend, &["app"]).await;
    let first = store.accept("e1", "a").await;
    let accepted = store.view(first).await.accepted;
    store.accept_truncated("e2", "a").await;
    let stats = store.get().upkeep.stats().await.unwrap();
    let counts: Vec<_> = stats.stages.iter().map(|(_, of)| (of.waiting, of.leased, of.parked)).collect();
    assert_eq!(counts, [(1, 0, 0), (2, 0, 0)]);
    assert_eq!(stats.oldest_unfinished, Some(accepted));
    assert!(stats.size_bytes > 0 && stats.log_bytes <= stats.size_bytes);
    store.park(&only(first)).await;
    let stats = store.get().upkeep.stats().await.unwrap();
    assert!(stats.oldest_unfinished.unwrap() >= accepted);
    assert_eq!(stats.stages[1].1.parked, 1);
}

fn refused(at: Timestamp, reason: &'static str) -> Refused {
    Refused {
        at,
        sender: r#"{"peer":"192.0.2.7:5000"}"#.to_owned(),
        reason,
        status: 400,
        size: Some(7),
        start: Some(bytes::Bytes::from_static(b"{\xffno")),
        is_known: true,
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn refused_requests_are_a_bounded_list_of_the_newest(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    store.open_with(|settings| settings.refused = 3).await;
    let now = clock::now();
    for reason in ["one", "two", "three", "four"] {
        store.get().intake.refuse(vec![refused(now, reason)]).await.unwrap();
    }
    let found = store.get().desk.refused(Span::default(), 10).await.unwrap();
    let reasons: Vec<_> = found.iter().map(|request| request.reason.as_str()).collect();
    assert_eq!(reasons, ["four", "three", "two"]);
    assert_eq!((found[0].at, found[0].status, found[0].bytes), (now, 400, Some(7)));
    assert_eq!(found[0].start.as_deref(), Some(&b"{\xffno"[..]), "its bytes as they came");
    assert_eq!(found[0].sender, r#"{"peer":"192.0.2.7:5000"}"#);
    assert_eq!(store.get().desk.refused(Span::default(), 1).await.unwrap().len(), 1);
    // They have the same retention as entries, and are no entries.
    assert_eq!(store.get().upkeep.expire(now.after(Duration::from_secs(1)), 10).await.unwrap().deleted, 0);
    assert!(store.get().desk.refused(Span::default(), 10).await.unwrap().is_empty());
    assert!(store.list(&Filter::default()).await.is_empty());

    // (C9) Strangers displace each other, and a known caller displaces only another.
    let of = |reason, is_known| Refused { is_known, ..refused(now, reason) };
    for (reason, is_known) in [("known", true), ("a", false), ("b", false), ("c", false), ("d", false)] {
        store.get().intake.refuse(vec![of(reason, is_known)]).await.unwrap();
    }
    let reasons = async |store: &Store| -> Vec<String> {
        store.get().desk.refused(Span::default(), 10).await.unwrap().into_iter().map(|request| request.reason).collect()
    };
    assert_eq!(reasons(&store).await, ["d", "c", "known"]);
    store.get().intake.refuse(["e", "f", "g"].map(|reason| of(reason, true)).to_vec()).await.unwrap();
    assert_eq!(reasons(&store).await, ["g", "f", "e"]);
    store.get().intake.refuse(vec![of("h", false)]).await.unwrap();
    assert_eq!(reasons(&store).await, ["g", "f", "e"]);
    store.get().upkeep.expire(now.after(Duration::from_secs(1)), 10).await.unwrap();

    store.open_with(|settings| settings.refused = 0).await;
    store.get().intake.refuse(vec![refused(now, "five")]).await.unwrap();
    assert!(store.get().desk.refused(Span::default(), 10).await.unwrap().is_empty());
}

/// (D10, D16) The figures are kept and not counted, through everything that can happen to a stage; and a sink that is not
/// configured any more still has its line.
#[apply(every_back_end)]
#[tokio::test]
async fn figures_are_right_through_everything_also_of_a_sink_that_is_gone(backend: Backend) {
    let mut store = Store::new(backend, &["app", "books"]).await;
    let figures = async |store: &Store| -> Vec<(String, [u64; 3])> {
        let stats = store.get().upkeep.stats().await.unwrap();
        let lines = stats
            .stages
            .iter()
            .map(|(stage, counts)| (stage.as_str().to_owned(), [counts.waiting, counts.leased, counts.parked]));
        lines.collect()
    };
    let line = |name: &str, counts| (name.to_owned(), counts);
    for (id, connection) in [("e1", "a"), ("e2", "b"), ("e3", "c")] {
        store.accept(id, connection).await;
    }
    let cut = store.accept_truncated("e4", "d").await;
    let leases = store.claim(&Stage::deliver("app")).await;
    store.settle(&leases[0], Outcome::Done).await;
    store.settle(&leases[1], park("no")).await;
    assert_eq!(
        figures(&store).await,
        [line("completion", [1, 0, 0]), line("app", [1, 1, 1]), line("books", [4, 0, 0])]
    );
    let lease = store.claim_one(&Stage::ACCOUNTS).await;
    store.settle(&lease, park("no")).await;
    assert_eq!(
        figures(&store).await,
        [line("completion", [0, 0, 1]), line("app", [0, 1, 2]), line("books", [3, 0, 1])]
    );
    assert_eq!(store.purge(&only(cut)).await, 1);
    store.settle(&leases[2], Outcome::GiveBack).await;
    assert_eq!(
        figures(&store).await,
        [line("completion", [0, 0, 0]), line("app", [1, 0, 1]), line("books", [3, 0, 0])]
    );
    // Another process writes.
    store.another().await.desk.park(&only_at(leases[0].seq, "books"), 10, "by hand").await.unwrap();
    store.remove_sink("app").await;
    assert_eq!(
        figures(&store).await,
        [line("completion", [0, 0, 0]), line("books", [2, 0, 1]), line("app", [1, 0, 1])]
    );
}
