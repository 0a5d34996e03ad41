//! The audit trail.

use crate::stores::{Backend, Store, every_back_end};
use base::clock;
use inbox::{Act, Span};
use rstest_reuse::apply;
use std::time::Duration;

fn act(what: &str) -> Act {
    Act { who: "ann (uid 1000)".to_owned(), what: what.to_owned(), which: "--sink app".to_owned() }
}

/// (D9) What operators did is kept, the newest first, also after a restart; it goes after its own time.
#[apply(every_back_end)]
#[tokio::test]
async fn acts_are_noted_and_forgotten_after_their_time(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    let before = clock::now();
    let first = store.get().audit.begin(&act("replay")).await.unwrap();
    store.get().audit.end(first, 7).await.unwrap();
    let second = store.get().audit.begin(&act("purge")).await.unwrap();
    store.crash().await;
    let audit = &store.get().audit;
    let acts = audit.acts(Span::default(), 10).await.unwrap();
    assert_eq!((acts[0].number, &acts[0].act, acts[0].entries), (second, &act("purge"), None), "it never ended");
    assert_eq!((acts[1].number, &acts[1].act, acts[1].entries), (first, &act("replay"), Some(7)));
    assert!(acts.len() == 2 && before <= acts[1].at && acts[1].at <= clock::now());
    assert_eq!(audit.acts(Span::default(), 1).await.unwrap(), acts[..1]);
    assert_eq!(audit.forget(before).await.unwrap(), 0);
    assert_eq!(audit.forget(clock::now().after(Duration::from_secs(1))).await.unwrap(), 2);
    assert!(audit.acts(Span::default(), 10).await.unwrap().is_empty());
}
