//! The sink on librdkafka's mock cluster: a Kafka in this process, as far as producers and consumers see. It has no disks, no
//! TLS and no users, so what those do is not tested here.

use super::{Settings, settings::Mechanism, sink::Kafka};
use crate::{
    Delivery, Error, Failure, FailureKind, Sink,
    contract::{Place, contract, parsed},
    fixture,
    opens::Opens,
    template::topic,
    tls::Tls,
};
use async_trait::async_trait;
use event::{Compact, ConnectionId};
use rdkafka::{
    ClientConfig, Message,
    consumer::{Consumer, StreamConsumer},
    message::Headers as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::{collections::BTreeMap, time::Duration};

type Cluster = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "events";

fn settings(brokers: &str) -> Settings {
    Settings {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        topic: topic(TOPIC).unwrap(),
        headers: Vec::new(),
        encrypted: false,
        user: None,
        password: None,
        mechanism: Mechanism::ScramSha512,
        timeout: Duration::from_secs(30),
        max_message: 8 * 1024 * 1024,
        tls: Tls { authorities: Vec::new(), certificate: None, key: None },
    }
}

/// A cluster of three brokers, with a topic of so many partitions.
fn cluster(partitions: i32) -> (Cluster, Settings) {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic(TOPIC, partitions, 3).unwrap();
    let settings = settings(&cluster.bootstrap_servers());
    (cluster, settings)
}

/// Key, content type and document of a message.
type Read = (Option<String>, String, String);

/// Reads messages from the start of the topic, until they are enough.
async fn read(brokers: &str, are_enough: impl Fn(&[Read]) -> bool) -> Vec<Read> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{:x}", fastrand::u64(..)))
        .set("auto.offset.reset", "earliest")
        .set("fetch.message.max.bytes", "16777216")
        .create()
        .unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let mut found: Vec<Read> = Vec::new();
    while !are_enough(&found) {
        let received = tokio::time::timeout(Duration::from_mins(1), consumer.recv()).await;
        let message =
            received.unwrap_or_else(|_| panic!("no message after {}: {:?}", found.len(), found.last())).unwrap();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let kind = message.headers().unwrap().get(0);
        assert_eq!(kind.key, "content-type");
        found.push((text(message.key()), text(kind.value).unwrap(), text(message.payload()).unwrap()));
    }
    found
}

/// One partition, so that there is one order. The cluster stays until the process ends: it cannot be sent between threads.
struct Topic {
    brokers: String,
}

#[async_trait]
impl Place for Topic {
    async fn open() -> (Box<dyn Sink>, Self) {
        let (cluster, settings) = cluster(1);
        std::mem::forget(cluster);
        (Box::new(Kafka::new(&settings).unwrap()), Self { brokers: settings.brokers.join(",") })
    }

    async fn arrived(self, sink: Box<dyn Sink>) -> Vec<(String, Vec<u8>)> {
        // A last message says that there are no more.
        sink.deliver(&fixture::whole("the-end", b"{}")).await.unwrap();
        let event = |(_, _, document): &Read| parsed(document).unwrap();
        let read = read(&self.brokers, |found| found.last().is_some_and(|last| event(last).0 == "the-end")).await;
        let mut found: Vec<_> = read.iter().map(event).collect();
        found.pop();
        found
    }

    fn written(body: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        Compact::default().push(body, &mut written);
        written
    }
}

contract!(Topic);

fn delivery(id: &str, connection: &str) -> Delivery {
    let mut delivery = fixture::whole(id, b"{}");
    delivery.attributes.subject = ConnectionId::new(connection);
    delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_the_connection_and_brokers_that_go_lose_nothing_and_no_order() {
    const EVENTS: usize = 300;
    let (cluster, settings) = cluster(4);
    let sink = Kafka::new(&settings).unwrap();
    for number in 0..EVENTS {
        let (goes, is_lost) = (number % 100 == 50, number == 170);
        if goes {
            cluster.broker_down(1).unwrap();
        }
        if is_lost {
            // A broker stores, and its acknowledgement is lost: librdkafka sends again.
            let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 3];
            cluster.request_errors(RDKafkaApiKey::Produce, &lost);
        }
        let batch: Vec<_> = (0..3).map(|line| delivery(&format!("{line}-{number}"), &format!("c{line}"))).collect();
        // The cluster chooses no other leader, so what it leads waits for the broker.
        let comes_back = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cluster.broker_up(1).unwrap();
        };
        let results =
            if goes { tokio::join!(sink.deliver_many(&batch), comes_back).0 } else { sink.deliver_many(&batch).await };
        for result in results {
            result.unwrap();
        }
    }
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, kind, document) in read(&settings.brokers.join(","), |found| found.len() == 3 * EVENTS).await {
        assert_eq!(kind, "application/cloudevents+json");
        lines.entry(key.unwrap()).or_default().push(parsed(&document).unwrap().0);
    }
    for line in 0..3 {
        let wanted: Vec<_> = (0..EVENTS).map(|number| format!("{line}-{number}")).collect();
        assert!(lines[&format!("c{line}")] == wanted, "{:?}", lines[&format!("c{line}")]);
    }
}

async fn failure(sink: &Kafka, delivery: &Delivery) -> Failure {
    match sink.deliver(delivery).await {
        Err(Error::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_wrong() {
    let (cluster, settings) = cluster(1);
    let sink = Kafka::new(&settings).unwrap();
    for (error, told) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "grant it WRITE and DESCRIBE"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, "the message was not stored"),
    ] {
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        let failure = failure(&sink, &delivery("e1", "1")).await;
        assert!(failure.reason.contains(told), "{failure:?}");
        assert_eq!(failure.kind, FailureKind::Transient { after: None });
        // Whatever it was, the next one goes.
        sink.deliver(&delivery("e2", "1")).await.unwrap();
    }
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let large = failure(&sink, &delivery("e3", "1")).await;
    assert!(large.reason.contains("raise max.message.bytes"), "{large:?}");
    assert_eq!(large.kind, FailureKind::Refused { status: Some(413) });
    let small = Kafka::new(&Settings { max_message: 1, ..settings.clone() }).unwrap();
    assert_eq!(failure(&small, &delivery("e4", "1")).await.kind, FailureKind::Refused { status: Some(413) });
    settings.server().unwrap().reach.await.unwrap();
    let away = Settings { timeout: Duration::from_secs(1), ..self::settings("127.0.0.1:1") };
    assert_eq!(
        failure(&Kafka::new(&away).unwrap(), &delivery("e5", "1")).await,
        Failure::transient("no broker acknowledged the message within 1s")
    );
    assert!(away.server().unwrap().reach.await.is_err());
}
