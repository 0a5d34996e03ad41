//! Lists page by page, in the order of acceptance.

use crate::{
    events::{event, new_entry},
    stores::{Backend, Store, every_back_end, in_state},
};
use base::clock::Timestamp;
use event::{ConnectionId, UserId};
use inbox::{Filter, NewEntry, Place, Span, State};
use rstest_reuse::apply;

/// When a to g were accepted: the clock was set back after b, and c and d came in one millisecond.
const ACCEPTED: [(&str, i64); 7] =
    [("a", 1000), ("b", 9000), ("c", 2000), ("d", 2000), ("e", 3000), ("f", 4000), ("g", 5000)];

async fn store(backend: Backend) -> Store {
    let store = Store::new(backend, &["app"]).await;
    for (id, millis) in ACCEPTED {
        let connection = if id == "b" || id == "c" { "odd" } else { id };
        let event = event(id, connection, 1, false);
        let entry = NewEntry { received: Timestamp::from_millis(millis), ..new_entry(&event) };
        store.get().intake.accept(entry).await.unwrap();
    }
    store
}

/// The ids of each page, to the last one.
async fn pages(store: &Store, filter: &Filter, (looked, limit): (usize, usize)) -> Vec<String> {
    let (mut pages, mut behind): (Vec<String>, Option<Place>) = (Vec::new(), None);
    loop {
        let page = store.get().desk.page(filter, behind, looked, limit).await.unwrap();
        pages.push(page.entries.iter().map(|entry| entry.event_id.as_str()).collect());
        assert!(pages.len() < 20, "{pages:?}");
        match page.next {
            Some(next) => behind = Some(next),
            None => return pages,
        }
    }
}

#[apply(every_back_end)]
#[tokio::test]
async fn pages_follow_each_other_and_leave_nothing_out(backend: Backend) {
    let store = store(backend).await;
    let all = Filter::default();
    assert_eq!(pages(&store, &all, (100, 100)).await, ["bgfedca"]);
    assert_eq!(pages(&store, &all, (100, 3)).await, ["bgf", "edc", "a"], "c and d on two pages");
    assert_eq!(pages(&store, &all, (2, 100)).await, ["bg", "fe", "dc", "a"], "so many are looked at");
    let at = |millis| Some(Timestamp::from_millis(millis));
    for (since, until, found) in
        [(at(2000), at(5000), "fedc"), (at(2001), None, "bgfe"), (None, at(2001), "dca"), (at(6000), at(7000), "")]
    {
        let filter = Filter { accepted: Span { since, until }, ..Filter::default() };
        assert_eq!(pages(&store, &filter, (100, 100)).await.concat(), found);
        assert_eq!(pages(&store, &filter, (2, 1)).await.concat(), found);
    }
}

/// What no index finds is looked for a part at a time; what one finds is there at once.
#[apply(every_back_end)]
#[tokio::test]
async fn a_search_goes_on_behind_what_was_looked_at(backend: Backend) {
    let store = store(backend).await;
    let odd = Filter { connection: Some(ConnectionId::new("odd")), ..Filter::default() };
    for sizes in [(100, 100), (2, 100), (1, 1)] {
        assert_eq!(pages(&store, &odd, sizes).await.concat(), "bc", "{sizes:?}");
    }
    let user = Filter { user: Some(UserId::new("uodd")), ..Filter::default() };
    assert_eq!(pages(&store, &user, (3, 100)).await.concat(), "bc");
    let nobody = Filter { user: Some(UserId::new("nobody")), ..Filter::default() };
    assert_eq!(pages(&store, &nobody, (3, 100)).await.concat(), "");
    let named = Filter { id: Some("a".to_owned()), ..Filter::default() };
    assert_eq!(pages(&store, &named, (1, 100)).await, ["a"]);
    store.park(&odd).await;
    assert_eq!(pages(&store, &in_state(State::Parked), (1, 100)).await, ["bc"]);
    assert_eq!(pages(&store, &in_state(State::Waiting), (1, 2)).await.concat(), "gfeda");
    assert_eq!(pages(&store, &in_state(State::Done), (3, 100)).await.concat(), "");
    // What was there when the page ended may be gone.
    let first = store.get().desk.page(&Filter::default(), None, 100, 2).await.unwrap();
    store.park(&Filter::default()).await;
    store.purge(&Filter { id: Some("g".to_owned()), ..Filter::default() }).await;
    let rest = store.get().desk.page(&Filter::default(), first.next, 100, 100).await.unwrap();
    assert_eq!(rest.entries.iter().map(|entry| entry.event_id.as_str()).collect::<String>(), "fedca");
}
