//! Hand-overs to sinks that answer as they are told.

use super::*;

use crate::work::End;
use bytes::Bytes;
use delivery::{Body, Delivery, DeliveryId, Sink, SinkName};
use event::{ConnectionId, EventId};
use futures_util::StreamExt as _;
use inbox::{Certainty, Doubts, Facts, Fetched, Found, ReadingId, Seq, Stage, Token, double::Double};
use prometheus_client::registry::Registry;
use std::sync::Mutex;

const TRUNCATED: &str = r#"{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{"id":"7","account_count":3,"accounts":[]},"more":1.50}"#;

/// Reads every body to its end, and answers as it is told.
#[derive(Clone, Default)]
struct Reader {
    read: Arc<Mutex<Vec<String>>>,
    failure: Option<Failure>,
}

async fn read(body: &Body) -> Result<String, delivery::BodyError> {
    let mut joined = Vec::new();
    let mut pieces = body.open();
    while let Some(piece) = pieces.next().await {
        joined.extend_from_slice(&piece?);
    }
    Ok(String::from_utf8(joined).unwrap())
}

#[async_trait]
impl Sink for Reader {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), delivery::Error> {
        let text = read(&delivery.body).await?;
        self.read.lock().unwrap().push(text);
        self.failure.clone().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

fn route(sink: &Reader, broken: Option<usize>) -> Route {
    let pages = vec![Bytes::from_static(br#"{"id":1},{"id":2}"#), Bytes::from_static(br#"{"id":3}"#)];
    let figures = Figures::new(&mut Registry::default());
    Route {
        slot: Arc::new(Slot::new(SinkName::new("app"), Box::new(sink.clone()))),
        gate: Arc::new(Gate::new(SinkName::new("app"), inbox::rules::Order::Resume, figures.of_sink("app"))),
        hands: 32,
        resumes: true,
        drops_stale: false,
        filter: None,
        merging: None,
        retry_for: Duration::from_hours(1),
        retry_first: Duration::from_secs(1),
        retry_longest: Duration::from_mins(15),
        source: "https://api.oxlin.io/v2.1".to_owned(),
        shelf: Arc::new(Double::with_pages(pages, broken)),
        figures,
        attempts: Attempts::default(),
        tracer: Tracer::default(),
        kind: "http",
    }
}

/// A completed entry whose three accounts are on two pages.
fn lease() -> Lease {
    let found = Found { accounts: 3, unusable: 0, certainty: Certainty::AsAnnounced };
    let entry = Facts {
        event_id: EventId::new("e"),
        delivery_id: DeliveryId::new("e"),
        event_type: "UPDATED".to_owned(),
        resource_type: "CONNECTIONS".to_owned(),
        connection: ConnectionId::new("7"),
        user: None,
        channel: None,
        mode: None,
        status: None,
        provider: None,
        new_transactions: None,
        created: None,
        accepted: clock::now(),
        account_count: Some(3),
        listed: 0,
        confirm: false,
        trace: None,
        fetched: Some(Fetched::Read { reading: ReadingId(1), found }),
        as_of: inbox::AsOf { at: clock::now(), listed_by: None },
        merged: Vec::new(),
    };
    Lease {
        seq: Seq(1),
        stage: Stage::deliver("app"),
        token: Token(1),
        expires: clock::now().after(Duration::from_mins(1)),
        attempts: 1,
        failing_since: None,
        doubts: Doubts::default(),
        resumed: None,
        is_stale: false,
        is_no_news: false,
        entry: Arc::new(entry),
        body: Bytes::from_static(TRUNCATED.as_bytes()),
        hold: Arc::new(()),
    }
}

fn counted(route: &Route, outcome: &'static str) -> u64 {
    route.figures.counted("app", outcome)
}

#[tokio::test]
async fn a_sink_gets_the_event_with_the_accounts_of_all_pages() {
    let sink = Reader::default();
    let route = route(&sink, None);
    assert_eq!(route.handle(&lease()).await.unwrap(), Outcome::Done);
    let completed = TRUNCATED.replace("[]", r#"[{"id":1},{"id":2},{"id":3}]"#);
    assert_eq!(*sink.read.lock().unwrap(), [completed]);
    assert_eq!(counted(&route, "delivered"), 1);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_the_inboxs_error_and_books_nothing_on_the_sink() {
    let sink = Reader::default();
    let route = route(&sink, Some(1));
    assert!(matches!(route.handle(&lease()).await, Err(Error::Closed)));
    assert_eq!(["delivered", "retry", "parked"].map(|outcome| counted(&route, outcome)), [0, 0, 0]);
}

#[tokio::test]
async fn what_a_sink_says_decides_what_becomes_of_the_entry() {
    let hour = Duration::from_hours(1);
    for (kind, word, fits) in [
        (FailureKind::Transient { after: None }, "retry", |outcome: &Outcome| {
            matches!(outcome, Outcome::Retry { is_doubtful: false, .. })
        }),
        (
            FailureKind::Transient { after: Some(hour) },
            "retry",
            |outcome: &Outcome| matches!(outcome, Outcome::Retry { due, .. } if due.since(clock::now()) > Duration::from_mins(59)),
        ),
        (FailureKind::Refused { status: Some(404) }, "retry", |outcome: &Outcome| {
            matches!(outcome, Outcome::Retry { is_doubtful: true, .. })
        }),
        (
            FailureKind::Gone,
            "parked",
            |outcome: &Outcome| matches!(outcome, Outcome::Park { cause: Cause::Gone, reason } if reason == "no: it will never take this entry"),
        ),
    ] as [(_, _, fn(&Outcome) -> bool); 4]
    {
        let failure = Some(Failure::new(kind, "no"));
        let route = route(&Reader { failure, ..Reader::default() }, None);
        let outcome = route.handle(&lease()).await.unwrap();
        assert!(fits(&outcome), "{kind:?}: {outcome:?}");
        assert_eq!(counted(&route, word), 1, "{kind:?}");
    }
}

/// A lease on work of this connection.
fn of(connection: &str) -> Lease {
    let lease = lease();
    let entry = Facts { connection: ConnectionId::new(connection), ..(*lease.entry).clone() };
    Lease { entry: Arc::new(entry), ..lease }
}

fn answering(kind: FailureKind) -> Route {
    route(&Reader { failure: Some(Failure::new(kind, "no")), ..Reader::default() }, None)
}

/// Tries work of this connection again and again over this long, and says how it ended, if it did.
async fn tried_over(route: &Route, connection: &str, tries: u32, over: Duration) -> Option<(Cause, String)> {
    let mut lease = of(connection);
    for attempt in 1..=tries {
        lease.attempts = attempt;
        if let Outcome::Park { cause, reason } = route.handle(&lease).await.unwrap() {
            return Some((cause, reason));
        }
        lease.doubts.tries += 1;
        tokio::time::advance(over / tries).await;
    }
    None
}

/// (E1) A deployment that answers 404 for a while parks nothing, however often it is asked.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_believed_after_an_hour_and_not_before() {
    let route = answering(FailureKind::Refused { status: Some(404) });
    route.gate.took("8");
    assert_eq!(tried_over(&route, "7", 59, Duration::from_mins(59)).await, None);
    let (cause, reason) = tried_over(&route, "7", 5, Duration::from_mins(10)).await.unwrap();
    assert_eq!(cause, Cause::Refused, "it takes the deliveries of others");
    assert!(reason.ends_with(": mend the sink, then replay"), "{reason}");
}

/// (E1) What was parked while the sink refused several connections goes back by itself, and the reason says so.
#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_several_connections_is_out_of_order() {
    let route = answering(FailureKind::Refused { status: Some(404) });
    assert!(matches!(route.handle(&of("8")).await, Ok(Outcome::Retry { .. })));
    assert_eq!(tried_over(&route, "7", 5, Duration::from_hours(1)).await, None);
    let (cause, reason) = tried_over(&route, "7", 5, Duration::from_hours(1)).await.unwrap();
    assert_eq!(cause, Cause::Outage);
    assert!(reason.ends_with("the entry then goes back in line by itself"), "{reason}");
    assert_eq!(route.gate.allowance(), 0, "not at once");
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(route.gate.allowance(), 1, "one trial");
}

/// (E2) A dead sink is left alone, and single deliveries try it.
#[tokio::test(start_paused = true)]
async fn a_dead_sink_is_tried_a_few_times_and_not_by_everybody() {
    let route = answering(FailureKind::Transient { after: None });
    let mut tried = 0;
    for second in 0..30 {
        for connection in 0..100 {
            if matches!(route.handle(&of(&format!("{second}-{connection}"))).await, Ok(Outcome::Retry { .. })) {
                tried += 1;
            }
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!((5..400).contains(&tried), "{tried} of 3,000");
    assert!(matches!(route.gate.view().standing, base::neighbour::Standing::Down(_)));
    assert!(route.gate.view().failing_since.is_some());
}

/// (E2) `Retry-After` holds its connection first, and the sink when a second connection is told the same.
#[tokio::test(start_paused = true)]
async fn a_rest_is_of_one_connection_first() {
    let route = answering(FailureKind::Busy { after: Some(Duration::from_mins(5)) });
    let tried = async |connection| matches!(route.handle(&of(connection)).await, Ok(Outcome::Retry { .. }));
    assert!(tried("1").await);
    assert!(!tried("1").await, "it was told to rest");
    assert!(tried("2").await, "the others go on");
    assert!(!tried("3").await, "the whole sink rests");
    tokio::time::advance(Duration::from_mins(5)).await;
    assert!(tried("3").await);
}

/// (E1) `stale = "drop"`: what is older than the last delivery is done without being delivered.
#[tokio::test]
async fn what_comes_late_is_marked_or_left_out() {
    let late = || Lease { is_stale: true, is_no_news: true, ..lease() };
    let sink = Reader::default();
    let drops = Route { drops_stale: true, ..route(&sink, None) };
    assert_eq!(drops.handle(&late()).await.unwrap(), Outcome::Superseded);
    assert_eq!(counted(&drops, "stale"), 1);
    assert!(sink.read.lock().unwrap().is_empty());
    assert_eq!(route(&sink, None).handle(&late()).await.unwrap(), Outcome::Done);
    assert_eq!(sink.read.lock().unwrap().len(), 1);
    // An event of another channel that leaves with it is news.
    let mixed = Lease { is_stale: true, ..lease() };
    assert_eq!(drops.handle(&mixed).await.unwrap(), Outcome::Done);
    assert_eq!(sink.read.lock().unwrap().len(), 2);
}

/// What a filter leaves out is done without being delivered, whatever else is true of it. A hint is asked by what the API said.
#[tokio::test]
async fn what_the_filter_leaves_out_is_not_delivered() {
    let sink = Reader::default();
    let filter = |status: &'static str| delivery::Filter {
        status: vec![status],
        mode: vec![],
        provider: vec![],
        user: vec![],
        new_transactions: None,
    };
    let of = |status: Option<&str>, confirm: bool| {
        let entry = Facts { status: status.map(str::to_owned), confirm, ..(*lease().entry).clone() };
        Lease { is_stale: true, is_no_news: true, entry: Arc::new(entry), ..lease() }
    };
    let asks = Route { filter: Some(filter("SUCCESS")), drops_stale: true, ..route(&sink, None) };
    assert_eq!(asks.handle(&of(Some("FAILED"), false)).await.unwrap(), Outcome::Filtered { by: "status" });
    assert_eq!(counted(&asks, "filtered"), 1);
    assert_eq!(asks.handle(&of(Some("SUCCESS"), false)).await.unwrap(), Outcome::Superseded);
    assert!(sink.read.lock().unwrap().is_empty());
    let asks = Route { filter: Some(filter("SUCCESS")), ..route(&sink, None) };
    assert_eq!(asks.handle(&of(None, false)).await.unwrap(), Outcome::Done, "it does not say");
    let hint = asks.handle(&of(Some("FAILED"), true)).await;
    assert!(
        matches!(hint, Err(Error::Closed)),
        "the connection that the API confirmed is asked for, and this shelf has none"
    );
}

/// An event whose accounts nobody needed is never delivered without them.
#[tokio::test]
async fn what_was_not_fetched_is_fetched_before_the_delivery() {
    let sink = Reader::default();
    let entry = Facts { fetched: None, ..(*lease().entry).clone() };
    let lacks = Lease { entry: Arc::new(entry), ..lease() };
    assert_eq!(route(&sink, None).handle(&lacks).await.unwrap(), Outcome::Unfetched);
    // It announces accounts, and nobody can tell how many: a person had it delivered as it is.
    let unclear = TRUNCATED.replace("\"account_count\":3", "\"account_count\":[]");
    let unclear = Lease { body: unclear.into(), ..lacks };
    assert_eq!(route(&sink, None).handle(&unclear).await.unwrap(), Outcome::Done);
}

/// Each sink has a schedule of its own.
#[tokio::test]
async fn the_next_try_is_as_far_away_as_the_sink_says() {
    let due = async |first, longest, attempts| {
        let route =
            Route { retry_first: first, retry_longest: longest, ..answering(FailureKind::Transient { after: None }) };
        match route.handle(&Lease { attempts, ..lease() }).await.unwrap() {
            Outcome::Retry { due, .. } => due.since(clock::now()),
            other => panic!("{other:?}"),
        }
    };
    let second = Duration::from_secs(1);
    for _ in 0..20 {
        assert!(due(second / 10, second, 1).await <= second / 10);
        assert!(due(second / 10, second, 60).await <= second);
    }
}

/// (E1) What ran out of `retry_for` goes back as soon as the sink takes a delivery, although no breaker was open.
#[tokio::test(start_paused = true)]
async fn what_was_given_up_goes_back_with_the_next_delivery_that_is_taken() {
    let route = answering(FailureKind::Transient { after: None });
    let failing = Lease { attempts: 20, failing_since: Some(clock::now().before(Duration::from_hours(2))), ..of("7") };
    let Outcome::Park { cause: Cause::GaveUp, reason } = route.handle(&failing).await.unwrap() else {
        panic!("not parked")
    };
    assert!(reason.ends_with("the entry then goes back in line by itself"), "{reason}");
    assert_eq!(route.gate.allowance(), 0);
    route.gate.took("8");
    assert_eq!(route.gate.allowance(), 1);
    route.gate.put_back(1, 1);
    route.gate.tried_again(false);
    route.gate.took("8");
    assert_eq!(route.gate.allowance(), 0, "a trial that failed is no reason to try again at once");
}

#[tokio::test]
async fn whoever_watches_is_told_what_came_of_each_attempt() {
    let route = route(&Reader::default(), None);
    route.handle(&lease()).await.unwrap();
    let mut attempts = route.attempts.watch();
    route.handle(&Lease { attempts: 3, ..lease() }).await.unwrap();
    let taken = attempts.recv().await.unwrap();
    assert_eq!((taken.number, taken.end, taken.attributes.linxoaccounts), (3, End::Taken, 3));
    assert!(attempts.is_empty(), "the one before was told to nobody");

    let route = answering(FailureKind::Transient { after: None });
    let mut attempts = route.attempts.watch();
    let Outcome::Retry { due, reason, .. } = route.handle(&lease()).await.unwrap() else { panic!("it is tried again") };
    assert_eq!(attempts.recv().await.unwrap().end, End::Again { due, reason });
    let route = answering(FailureKind::Gone);
    let mut attempts = route.attempts.watch();
    route.handle(&lease()).await.unwrap();
    assert!(matches!(attempts.recv().await.unwrap().end, End::Parked { .. }));
}
