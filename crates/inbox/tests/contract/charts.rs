//! What happened, minute by minute.

use crate::stores::{Backend, Store, every_back_end};
use base::clock::Timestamp;
use inbox::{Minute, Span};
use rstest_reuse::apply;

const MINUTE: i64 = 60_000;

fn minute(number: i64, received: u64) -> Minute {
    let at = Timestamp::from_millis(1_800_000_000_000 + number * MINUTE);
    Minute { at, received, delivered: received * 2, parked: 1, took_ms: received * 10 }
}

/// Receivers are added up, and so are the minutes of a step; what was noted outlives a crash, and goes after seven days.
#[apply(every_back_end)]
#[tokio::test]
async fn minutes_are_added_up_and_forgotten_after_a_week(backend: Backend) {
    let mut store = Store::new(backend, &["app"]).await;
    for (receiver, noted) in
        [("a", minute(0, 1)), ("b", minute(0, 2)), ("a", minute(0, 4)), ("a", minute(7, 8)), ("b", minute(25, 16))]
    {
        store.get().charts.note(receiver, &noted).await.unwrap();
    }
    store.crash().await;
    let charts = &store.get().charts;
    let received = async |span: Span, step: u32| {
        let found = charts.minutes(span, step).await.unwrap();
        found
            .into_iter()
            .map(|minute| ((minute.at.as_millis() - 1_800_000_000_000) / MINUTE, minute.received))
            .collect::<Vec<_>>()
    };
    assert_eq!(received(Span::default(), 1).await, [(0, 7), (7, 8), (25, 16)]);
    assert_eq!(received(Span::default(), 10).await, [(0, 15), (20, 16)]);
    let ends = |since, until| Span { since: Some(minute(since, 0).at), until: Some(minute(until, 0).at) };
    assert_eq!(received(ends(7, 25), 1).await, [(7, 8)]);
    let first = charts.minutes(ends(0, 1), 1).await.unwrap();
    assert_eq!(first, [Minute { parked: 3, ..minute(0, 7) }]);
    let week = 7 * 24 * 60;
    charts.note("a", &minute(week + 7, 32)).await.unwrap();
    assert_eq!(received(Span::default(), 1).await, [(7, 8), (25, 16), (week + 7, 32)]);
}
