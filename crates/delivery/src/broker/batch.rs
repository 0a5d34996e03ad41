//! From deliveries to acknowledged messages.
//!
//! Messages are handed to the client library in the order of the deliveries, each as soon as its document is made, and the
//! acknowledgements are waited for while later ones are made. So a batch costs about one round trip.
//!
//! Memory is bounded: documents that are made and not yet acknowledged share a budget, for all batches of a sink together.
//! Where it is used up, the next document waits for acknowledgements. An event that is larger than `max_message` is
//! refused before its body is read.

use crate::{
    cloudevent::document,
    sink::{Delivery, Error, Failure, FailureKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use settings::units::show_size;
use std::{pin::pin, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Deliveries that a sink likes to get at once.
const BATCH: usize = 256;
/// Bytes of documents that are made and not yet acknowledged; one larger document is let through alone.
const BUDGET: u64 = 32 * 1024 * 1024;
/// What one permit of the budget stands for.
const UNIT: u64 = 1024;
/// Attributes, on top of the body.
const ATTRIBUTES: u64 = 4 * 1024;

/// One delivery in the form in which it goes out.
pub(crate) struct Message<'d> {
    /// What it was made of.
    pub(crate) delivery: &'d Delivery,
    /// The structured `CloudEvents` document.
    pub(crate) document: Bytes,
}

/// What came of a message. It must not be pending for ever.
pub(crate) type Acknowledged = BoxFuture<'static, Result<(), Failure>>;

/// Hands messages over.
#[async_trait]
pub(crate) trait Publish: Send + Sync {
    /// Gives one message to the client library, behind those that were given before. What it returns ends when the broker has
    /// answered, or has not answered in time.
    async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure>;
}

/// What the batches of one sink share.
pub(crate) struct Batch {
    budget: Arc<Semaphore>,
    max_message: u64,
}

impl Batch {
    /// Deliveries that a sink likes to get at once.
    pub(crate) const SIZE: usize = BATCH;

    /// `max_message` in bytes.
    pub(crate) fn new(max_message: u64) -> Self {
        Self { budget: Arc::new(Semaphore::new(units(BUDGET) as usize)), max_message }
    }

    /// Delivers all, and answers each in its place.
    pub(crate) async fn deliver(&self, publish: &dyn Publish, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        let mut results: Vec<Option<Result<(), Error>>> = Vec::new();
        results.resize_with(deliveries.len(), || None);
        let mut under_way = FuturesUnordered::new();
        let mut settle = |(place, result): (usize, Result<(), Error>)| {
            if let Some(free) = results.get_mut(place) {
                *free = Some(result);
            }
        };
        for (place, delivery) in deliveries.iter().enumerate() {
            let mut room = pin!(self.room(delivery));
            let permit = loop {
                tokio::select! {
                    biased;
                    Some(ended) = under_way.next(), if !under_way.is_empty() => settle(ended),
                    permit = &mut room => break permit,
                }
            };
            match self.hand_over(publish, delivery, permit).await {
                Ok((acknowledged, permit)) => under_way.push(async move {
                    let result = acknowledged.await;
                    drop(permit);
                    (place, result.map_err(Error::from))
                }),
                Err(error) => settle((place, Err(error))),
            }
        }
        while let Some(ended) = under_way.next().await {
            settle(ended);
        }
        let unanswered = || Err(Failure::transient("the delivery was not answered").into());
        results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect()
    }

    /// Room in memory for a document.
    async fn room(&self, delivery: &Delivery) -> Option<OwnedSemaphorePermit> {
        let bytes = delivery.body.length().saturating_add(ATTRIBUTES);
        let wanted = if bytes > self.max_message.saturating_add(ATTRIBUTES) { 1 } else { units(bytes) };
        // The semaphore is never closed.
        Arc::clone(&self.budget).acquire_many_owned(wanted.min(units(BUDGET))).await.ok()
    }

    /// Makes the document and hands it over. The room goes along with the acknowledgement.
    async fn hand_over(
        &self,
        publish: &dyn Publish,
        delivery: &Delivery,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(Acknowledged, Option<OwnedSemaphorePermit>), Error> {
        let length = delivery.body.length();
        if length > self.max_message {
            let limit = show_size(self.max_message);
            return Err(too_large(length, &format!("the sink's max_message is {limit}: raise it")).into());
        }
        let document = document(delivery).await?.into();
        let acknowledged = publish.publish(Message { delivery, document }).await?;
        Ok((acknowledged, room))
    }
}

/// A document that somebody does not take for its size; `limit` says whose limit it is and what to do about it.
pub(crate) fn too_large(length: u64, limit: &str) -> Failure {
    Failure::new(
        FailureKind::Refused { status: Some(413) },
        format!("the event has {length} bytes, and {limit}, then replay the entry"),
    )
}

/// Permits for so many bytes.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use base::sync::lock;
    use std::sync::Mutex;
    use tokio::sync::oneshot;

    type Answer = oneshot::Sender<Result<(), Failure>>;

    /// Takes messages, and acknowledges them when it is told to.
    #[derive(Default)]
    struct Toy {
        taken: Mutex<Vec<(String, Answer)>>,
    }

    #[async_trait]
    impl Publish for Toy {
        async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure> {
            let (answer, answered) = oneshot::channel();
            lock(&self.taken).push((message.delivery.attributes.id.as_str().to_owned(), answer));
            Ok(Box::pin(async move { answered.await.unwrap() }))
        }
    }

    impl Toy {
        async fn taken(&self, count: usize) -> Vec<String> {
            loop {
                let taken: Vec<_> = lock(&self.taken).iter().map(|(id, _)| id.clone()).collect();
                if taken.len() >= count {
                    return taken;
                }
                tokio::task::yield_now().await;
            }
        }

        fn answer(&self, place: usize, answer: Result<(), Failure>) {
            lock(&self.taken).remove(place).1.send(answer).unwrap();
        }
    }

    #[tokio::test]
    async fn all_are_handed_over_before_the_first_is_acknowledged() {
        let (batch, toy) = (Batch::new(1 << 20), Toy::default());
        let deliveries = ["a", "b", "c"].map(|id| fixture::whole(id, b"{}"));
        let (results, ()) = tokio::join!(batch.deliver(&toy, &deliveries), async {
            assert_eq!(toy.taken(3).await, ["a", "b", "c"]);
            toy.answer(2, Ok(()));
            toy.answer(1, Err(Failure::transient("no")));
            toy.answer(0, Ok(()));
        });
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().to_string(), "no");
    }

    #[tokio::test]
    async fn documents_that_nobody_acknowledged_yet_have_a_bound() {
        let (batch, toy) = (Batch::new(BUDGET), Toy::default());
        let large: &'static [u8] = vec![b' '; usize::try_from(BUDGET / 2).unwrap()].leak();
        let deliveries = ["a", "b", "c"].map(|id| fixture::whole(id, large));
        let (results, ()) = tokio::join!(batch.deliver(&toy, &deliveries), async {
            assert_eq!(toy.taken(1).await, ["a"]);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(toy.taken(1).await, ["a"], "two do not fit, with their attributes");
            toy.answer(0, Ok(()));
            assert_eq!(toy.taken(1).await, ["b"]);
            toy.answer(0, Ok(()));
            assert_eq!(toy.taken(1).await, ["c"]);
            toy.answer(0, Ok(()));
        });
        assert!(results.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_unread() {
        let (batch, toy) = (Batch::new(1024), Toy::default());
        // Its body cannot be read; nobody tries to.
        let results = batch.deliver(&toy, &[fixture::unreadable("e1", 2, 0)]).await;
        let Some(Err(Error::Failed(failure))) = results.first() else { panic!("{results:?}") };
        assert_eq!(failure.kind, FailureKind::Refused { status: Some(413) });
        let words = "bytes, and the sink's max_message is 1 KiB: raise it, then replay the entry";
        assert!(failure.reason.ends_with(words), "{}", failure.reason);
    }
}
