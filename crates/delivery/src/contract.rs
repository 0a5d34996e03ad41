//! What every kind of sink promises, as tests that each kind runs on a place of its own.

use crate::{
    body::BodyError,
    fixture::{self, Torn},
    sink::{Delivery, Error, Sink},
};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Where the sink under test delivers to.
#[async_trait]
pub(crate) trait Place: Send + Sized {
    /// A new place, and a sink that delivers there.
    async fn open() -> (Box<dyn Sink>, Self);

    /// What arrived whole, in order: delivery ids and bodies.
    async fn arrived(self, sink: Box<dyn Sink>) -> Vec<(String, Vec<u8>)>;

    /// How a body looks there.
    fn written(body: &[u8]) -> Vec<u8> {
        body.to_vec()
    }
}

/// Makes the tests of a kind.
macro_rules! contract {
    ($place:ty) => {
        mod keeps_the_contract {
            use super::*;
            use crate::contract;

            #[tokio::test(flavor = "multi_thread")]
            async fn bodies_arrive_byte_for_byte() {
                contract::bodies_arrive_byte_for_byte::<$place>().await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_body_that_cannot_be_read_is_not_the_sinks_failure() {
                contract::a_body_that_cannot_be_read_is_not_the_sinks_failure::<$place>().await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn many_deliveries_are_answered_one_by_one() {
                contract::many_deliveries_are_answered_one_by_one::<$place>().await;
            }
        }
    };
}
pub(crate) use contract;

/// A document of the NDJSON kinds; `None` for a line that was given up half-way.
pub(crate) fn parsed(line: &str) -> Option<(String, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Document {
        id: String,
        data: Box<RawValue>,
    }
    let document: Document = serde_json::from_str(line).ok()?;
    Some((document.id, document.data.get().as_bytes().to_vec()))
}

pub(crate) async fn bodies_arrive_byte_for_byte<P: Place>() {
    let (sink, place) = P::open().await;
    let body = b"{ \"amount\" : 10000.50,\n \"text\":\"a \\\" b\\\\\" }";
    let (small, small_json) = fixture::paged("small", 3, 2);
    let (large, large_json) = fixture::paged("large", 40, 400);
    assert!(large_json.len() > 512 * 1024);
    for delivery in [&fixture::whole("whole", body), &small, &large] {
        sink.deliver(delivery).await.unwrap();
    }
    let arrived = place.arrived(sink).await;
    let expected = [("whole", &body[..]), ("small", &small_json), ("large", &large_json)];
    let expected = expected.map(|(id, json)| (id.to_owned(), P::written(json)));
    assert!(arrived == expected, "{:?}", arrived.iter().map(|(id, json)| (id, json.len())).collect::<Vec<_>>());
}

pub(crate) async fn a_body_that_cannot_be_read_is_not_the_sinks_failure<P: Place>() {
    let (sink, place) = P::open().await;
    sink.deliver(&fixture::whole("before", b"{}")).await.unwrap();
    for torn in
        [fixture::unreadable("torn", 2, 0), fixture::unreadable("torn", 2, 1), fixture::unreadable("torn", 8, 6)]
    {
        let error = sink.deliver(&torn).await.unwrap_err();
        let Error::Unreadable(BodyError::Source(source)) = error else { panic!("{error:?}") };
        assert!(source.downcast::<Torn>().is_ok(), "the source's own error comes back");
    }
    for by in [-1, 1] {
        let error = sink.deliver(&fixture::misjudged("misjudged", by)).await.unwrap_err();
        assert!(matches!(error, Error::Unreadable(BodyError::Length { .. })), "{by}: {error:?}");
    }
    sink.deliver(&fixture::whole("after", b"{}")).await.unwrap();
    assert_eq!(ids(&place.arrived(sink).await), ["before", "after"]);
}

pub(crate) async fn many_deliveries_are_answered_one_by_one<P: Place>() {
    let (sink, place) = P::open().await;
    assert!(sink.batch() >= 1);
    assert_eq!(sink.deliver_many(&[]).await.len(), 0);
    let batch: [Delivery; 6] = [
        fixture::whole("a", b"{}"),
        fixture::unreadable("torn", 2, 1),
        fixture::paged("b", 40, 400).0,
        fixture::whole("c", b"{}"),
        fixture::unreadable("torn", 8, 6),
        fixture::paged("d", 2, 2).0,
    ];
    let answers = sink.deliver_many(&batch).await;
    let words: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(()) => "delivered",
            Err(Error::Unreadable(_)) => "unreadable",
            Err(Error::Failed(_)) => "failed",
        })
        .collect();
    assert_eq!(words, ["delivered", "unreadable", "delivered", "delivered", "unreadable", "delivered"]);
    assert_eq!(ids(&place.arrived(sink).await), ["a", "b", "c", "d"]);
}

fn ids(arrived: &[(String, Vec<u8>)]) -> Vec<&str> {
    arrived.iter().map(|(id, _)| id.as_str()).collect()
}
