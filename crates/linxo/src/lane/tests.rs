use super::*;
use crate::fixture::figures;
use base::trust::Why;
use futures_util::{FutureExt as _, future::join_all};
use std::sync::atomic::AtomicUsize;
use tokio::time::{advance, sleep, timeout};

fn limits(at_once: usize) -> Limits {
    Limits { at_once, rate: None, pace: Arc::default() }
}

fn status(status: u16, after: Option<Duration>) -> Result<(), Error> {
    Err(Error::Status { peer: Peer::Linxo, status, code: None, after })
}

async fn call(lane: &Lane, who: u32, result: Result<(), Error>) {
    let mut turn = lane.turn(&limits(2), &who.to_string()).await.unwrap();
    turn.begins();
    turn.ended(&result);
}

/// The server fails for connection after connection, until it counts as down.
async fn take_down(lane: &Lane) {
    for who in 100..105 {
        advance(Duration::from_secs(1)).await;
        call(lane, who, status(503, None)).await;
    }
    assert_eq!(lane.figures.breaker_open.get(), 1);
}

/// (A3) Failures of one connection are its own trouble, and refusals are nobody's.
#[tokio::test(start_paused = true)]
async fn failures_of_several_connections_count_and_of_one_do_not() {
    let lane = Lane::new(Peer::Linxo, &figures());
    for who in 0..20 {
        call(&lane, who, status(404, None)).await;
    }
    for _ in 0..20 {
        call(&lane, 7, status(500, None)).await;
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!((lane.room(), lane.figures.breaker_open.get()), ((None, usize::MAX), 0));
    take_down(&lane).await;
    assert_ne!(lane.room(), (None, usize::MAX));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_tried_for_a_connection_that_has_not_failed_and_comes_back() {
    let lane = Lane::new(Peer::Linxo, &figures());
    take_down(&lane).await;
    advance(Duration::from_millis(250)).await;
    let mut trial = lane.turn(&limits(16), "1").await.unwrap();
    assert!(
        matches!(lane.turn(&limits(16), "2").await, Err(Error::Paused { after, .. }) if after <= Duration::from_secs(1))
    );
    trial.begins();
    trial.ended(&Ok(()));
    assert_eq!((lane.room(), lane.figures.breaker_open.get()), ((None, 1), 0));
    advance(Duration::from_secs(3)).await;
    assert_eq!(lane.room(), (None, usize::MAX));
}

/// (A6) A rest holds its connection, and the server where a second one is told to rest.
#[tokio::test(start_paused = true)]
async fn a_rest_is_kept_where_429_or_503_asked_for_it() {
    let asked = Some(Duration::from_secs(30));
    for (number, rests) in [(404, false), (500, false), (429, true), (503, true)] {
        let lane = Lane::new(Peer::Linxo, &figures());
        call(&lane, 1, status(number, asked)).await;
        let again = lane.turn(&limits(2), "1").now_or_never().unwrap();
        assert_eq!(matches!(again, Err(Error::Paused { why: Why::ConnectionRests, .. })), rests, "{number}");
        assert!(lane.turn(&limits(2), "2").now_or_never().unwrap().is_ok(), "{number}");
        assert_eq!((lane.room().0, lane.figures.breaker_open.get()), (None, 0));
        call(&lane, 2, status(number, asked)).await;
        assert_eq!(
            (lane.room().0, lane.figures.breaker_open.get()),
            (asked.filter(|_| rests), i64::from(rests)),
            "{number}"
        );
    }
}

/// (A3) Calls that hang hold half of the slots at most while others wait.
#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_given_up_when_others_wait() {
    let lane = Lane::new(Peer::Linxo, &figures());
    let mut hanging = Vec::new();
    for who in 0..4 {
        let mut turn = lane.turn(&limits(4), &who.to_string()).await.unwrap();
        turn.begins();
        hanging.push(turn);
    }
    let start = Instant::now();
    let first = async {
        let turn = hanging.remove(0);
        let error = turn.given_up().await;
        turn.ended(&Err::<(), _>(error));
    };
    let four = limits(4);
    let ((), good) = tokio::join!(first, lane.turn(&four, "good"));
    assert!(good.is_ok());
    assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
    // Where fewer pieces of work are done at once than calls may be made, their number counts.
    lane.set_hands(2);
    advance(Duration::from_secs(1)).await;
    lane.make_room(&limits(4));
    assert!(matches!(hanging[0].given_up().now_or_never(), Some(Error::Hung { peer: Peer::Linxo })));
}

#[tokio::test(start_paused = true)]
async fn never_more_under_way_than_allowed_and_all_come_in() {
    let lane = Lane::new(Peer::Linxo, &figures());
    let (inside, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let visits = (0..50_u64).map(|number| {
        let (lane, inside, peak) = (&lane, &inside, &peak);
        async move {
            let mut turn = lane.turn(&limits(3), &number.to_string()).await.unwrap();
            turn.begins();
            peak.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(number % 7)).await;
            inside.fetch_sub(1, Ordering::Relaxed);
            turn.ended(&Ok(()));
        }
    });
    timeout(Duration::from_mins(1), join_all(visits)).await.unwrap();
    assert_eq!(peak.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_counts_those_who_came_in_before() {
    let lane = Lane::new(Peer::Linxo, &figures());
    let mut inside = Vec::new();
    for who in 0..4 {
        inside.push(lane.turn(&limits(4), &who.to_string()).await.unwrap());
    }
    for _ in 0..2 {
        inside.pop();
        assert!(lane.turn(&limits(2), "5").now_or_never().is_none(), "two are inside still");
    }
    inside.pop();
    // Those who gave up waiting hold up nobody.
    assert!(lane.turn(&limits(2), "5").now_or_never().is_some());
}
