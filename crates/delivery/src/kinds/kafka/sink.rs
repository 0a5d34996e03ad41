//! Hands messages over in the order of the deliveries, and waits for the acknowledgements while later ones are made.

use super::{
    config::{self, Unreadable},
    fault,
    settings::Settings,
};
use crate::{
    cloudevent::append_line,
    opens::{Cause, Opens, Server},
    sink::{Delivery, Error, Failure, FailureKind, Sink},
};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::error::chain;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};
use settings::units::show_size;
use std::{path::Path, sync::Arc, time::Duration};

/// Deliveries that a sink likes to get at once.
const BATCH: usize = 256;
/// `CloudEvents` binding for Kafka, section 3.3.
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Kafka::new(self)?))
    }

    fn server(&self) -> Option<Server> {
        let settings = self.clone();
        let reach = Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || look(&settings)).await;
            looked.unwrap_or_else(|error| Err(chain(&error)))
        });
        Some(Server { host: self.brokers.join(", "), reach })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

/// Asks the brokers for the topic. Blocking.
fn look(settings: &Settings) -> Result<Vec<String>, String> {
    let sink = Kafka::new(settings).map_err(|problem| chain(&problem))?;
    let told = |error: &KafkaError| fault::explain(error, settings.timeout).reason;
    let producer = sink.producer.load_full();
    let metadata =
        producer.client().fetch_metadata(Some(&settings.topic), settings.timeout).map_err(|error| told(&error))?;
    match metadata.topics().iter().find_map(|topic| topic.error()) {
        Some(error) => Err(told(&KafkaError::MessageProduction(RDKafkaErrorCode::from(error)))),
        None => Ok(Vec::new()),
    }
}

/// Why the sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    File(#[from] Unreadable),
    #[error("librdkafka does not take the settings of the sink")]
    Settings(#[source] KafkaError),
}

/// The sink.
pub(super) struct Kafka {
    config: ClientConfig,
    producer: ArcSwap<FutureProducer>,
    topic: String,
    timeout: Duration,
    max_message: u64,
}

/// A message that is on its way, and the place of its delivery.
type UnderWay = (usize, DeliveryFuture);

impl Kafka {
    /// Reads files and prepares the producer, which connects when it likes.
    pub(super) fn new(settings: &Settings) -> Result<Self, Problem> {
        let config = config::config(settings)?;
        let producer: FutureProducer = config.create().map_err(Problem::Settings)?;
        Ok(Self {
            producer: ArcSwap::from_pointee(producer),
            config,
            topic: settings.topic.clone(),
            timeout: settings.timeout,
            max_message: settings.max_message,
        })
    }

    /// The structured document of a delivery, without a line feed.
    async fn document(&self, delivery: &Delivery) -> Result<Vec<u8>, Error> {
        let length = delivery.body.length();
        if length > self.max_message {
            return Err(Failure::new(
                FailureKind::Refused { status: Some(413) },
                format!(
                    "the event has {length} bytes, and the sink's max_message is {}: raise it, then replay the entry",
                    show_size(self.max_message)
                ),
            )
            .into());
        }
        let mut document = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1024);
        append_line(delivery, &mut document).await?;
        document.pop();
        Ok(document)
    }

    /// Gives one message to librdkafka, behind those that were given before. Where its queue is full, the messages that are
    /// under way are waited for first.
    async fn hand_over(
        &self,
        delivery: &Delivery,
        under_way: &mut Vec<UnderWay>,
        results: &mut [Result<(), Error>],
    ) -> Result<DeliveryFuture, Error> {
        let document = self.document(delivery).await?;
        let producer = self.producer.load_full();
        loop {
            let attributes = &delivery.attributes;
            let headers = OwnedHeaders::new().insert(Header { key: "content-type", value: Some(CONTENT_TYPE) });
            let record =
                FutureRecord::to(&self.topic).key(attributes.subject.as_str()).payload(&document).headers(headers);
            match producer.send_result(record) {
                Ok(future) => return Ok(future),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if !under_way.is_empty() => {
                    self.settle(under_way, results).await;
                }
                Err((error, _)) => return Err(self.failed(&error).into()),
            }
        }
    }

    /// Waits for the acknowledgements of all messages that are under way.
    async fn settle(&self, under_way: &mut Vec<UnderWay>, results: &mut [Result<(), Error>]) {
        for (place, future) in under_way.drain(..) {
            let failure = match future.await {
                Ok(Ok(_)) => continue,
                Ok(Err((error, _))) => self.failed(&error),
                Err(_gone) => Failure::transient("the producer ended before the message was acknowledged"),
            };
            if let Some(result) = results.get_mut(place) {
                *result = Err(failure.into());
            }
        }
    }

    /// What an error means. After one that ends an idempotent producer, the next delivery finds a new producer.
    fn failed(&self, error: &KafkaError) -> Failure {
        let present = self.producer.load_full();
        if present.client().fatal_error().is_some()
            && let Ok(next) = self.config.create::<FutureProducer>()
        {
            tracing::warn!(
                code = "sink_producer_replaced",
                "the Kafka producer had an error that ends it; a new one is in use"
            );
            // Of several that saw the error, one replaces it.
            self.producer.compare_and_swap(&present, Arc::new(next));
        }
        fault::explain(error, self.timeout)
    }
}

#[async_trait]
impl Sink for Kafka {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut results = self.deliver_many(std::slice::from_ref(delivery)).await;
        results.pop().unwrap_or(Ok(()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        let mut results: Vec<_> = deliveries.iter().map(|_| Ok(())).collect();
        let mut under_way = Vec::with_capacity(deliveries.len());
        for (place, delivery) in deliveries.iter().enumerate() {
            match self.hand_over(delivery, &mut under_way, &mut results).await {
                Ok(future) => under_way.push((place, future)),
                Err(error) => {
                    if let Some(result) = results.get_mut(place) {
                        *result = Err(error);
                    }
                }
            }
        }
        self.settle(&mut under_way, &mut results).await;
        results
    }

    fn batch(&self) -> usize {
        BATCH
    }
}
