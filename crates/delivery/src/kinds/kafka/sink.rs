//! The producer: messages and their acknowledgements.

use super::{
    config::{self, Unreadable},
    fault,
    settings::Settings,
};
use crate::{
    broker::{Acknowledged, Batch, CONTENT_TYPE, Message, Publish},
    opens::{Cause, Opens, Server},
    sink::{Delivery, Error, Failure, Sink},
    template::{Headers, Template},
};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::error::chain;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    metadata::MetadataTopic,
    producer::{FutureProducer, FutureRecord, Producer as _},
    types::RDKafkaErrorCode,
};
use std::{path::Path, sync::Arc, time::Duration};

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

/// Asks the brokers for the topic, where it has one name for all events. Blocking.
fn look(settings: &Settings) -> Result<Vec<String>, String> {
    let sink = Kafka::new(settings).map_err(|problem| chain(&problem))?;
    let told = |error: &KafkaError| fault::explain(error, settings.timeout).reason;
    let producer = sink.producers.present.load_full();
    let client = producer.client();
    let Some(topic) = settings.topic.fixed() else {
        let answered = client.fetch_cluster_id(settings.timeout);
        return answered.map(|_| Vec::new()).ok_or_else(|| "no broker can be reached".to_owned());
    };
    let metadata = client.fetch_metadata(Some(topic), settings.timeout).map_err(|error| told(&error))?;
    match metadata.topics().iter().find_map(MetadataTopic::error) {
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

/// The producer, which is replaced when it had an error that ends it.
struct Producers {
    config: ClientConfig,
    present: ArcSwap<FutureProducer>,
    timeout: Duration,
}

impl Producers {
    /// What an error means. After one that a producer does not get over, the next delivery finds a new one: an idempotent producer
    /// ends with some errors, and what it was once forbidden it believes to be forbidden for minutes.
    fn failed(&self, used: &Arc<FutureProducer>, error: &KafkaError) -> Failure {
        let is_forbidden = error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        if (is_forbidden || used.client().fatal_error().is_some())
            // Of several that saw the error, one replaces it.
            && Arc::ptr_eq(used, &self.present.load())
            && let Ok(next) = self.config.create::<FutureProducer>()
        {
            tracing::warn!(
                code = "sink_producer_replaced",
                "the Kafka producer had an error that it does not get over; a new one is in use"
            );
            self.present.compare_and_swap(used, Arc::new(next));
        }
        fault::explain(error, self.timeout)
    }
}

/// The sink.
pub(super) struct Kafka {
    producers: Arc<Producers>,
    topic: Template,
    headers: Headers,
    batch: Batch,
}

impl Kafka {
    /// Reads files and prepares the producer, which connects when it likes.
    pub(super) fn new(settings: &Settings) -> Result<Self, Problem> {
        let config = config::config(settings)?;
        let producer: FutureProducer = config.create().map_err(Problem::Settings)?;
        let present = ArcSwap::from_pointee(producer);
        Ok(Self {
            producers: Arc::new(Producers { config, present, timeout: settings.timeout }),
            topic: settings.topic.clone(),
            headers: Headers::new(&settings.headers),
            batch: Batch::new(settings.max_message),
        })
    }
}

#[async_trait]
impl Publish for Kafka {
    async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure> {
        let attributes = &message.delivery.attributes;
        let topic = self.topic.render(attributes)?;
        let mut headers = OwnedHeaders::new().insert(Header { key: "content-type", value: Some(CONTENT_TYPE) });
        for (key, value) in self.headers.render(attributes)? {
            headers = headers.insert(Header { key, value: Some(&value) });
        }
        let record =
            FutureRecord::to(&topic).key(attributes.subject.as_str()).payload(&message.document[..]).headers(headers);
        let (producers, used) = (Arc::clone(&self.producers), self.producers.present.load_full());
        let sent = used.send_result(record).map_err(|(error, _)| producers.failed(&used, &error))?;
        Ok(Box::pin(async move {
            match sent.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(producers.failed(&used, &error)),
                Err(_gone) => Err(Failure::transient("the producer ended before the message was acknowledged")),
            }
        }))
    }
}

#[async_trait]
impl Sink for Kafka {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut results = self.batch.deliver(self, std::slice::from_ref(delivery)).await;
        results.pop().unwrap_or(Ok(()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.batch.deliver(self, deliveries).await
    }

    fn batch(&self) -> usize {
        Batch::SIZE
    }
}
