//! What an error of librdkafka means for a delivery. The words are ours, with librdkafka's name for the error.

use crate::sink::{Failure, FailureKind};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use std::time::Duration;

/// The failure that an error of a message is.
pub(super) fn explain(error: &KafkaError, timeout: Duration) -> Failure {
    let Some(code) = error.rdkafka_error_code() else {
        return Failure::transient("the message could not be handed to librdkafka");
    };
    let told = match code {
        Code::MessageSizeTooLarge => {
            return Failure::new(
                FailureKind::Refused { status: Some(413) },
                "the event is too large for the topic: raise max.message.bytes there and the sink's max_message, then \
                         replay the entry",
            );
        }
        Code::MessageTimedOut => {
            return Failure::transient(format!("no broker acknowledged the message within {timeout:?}"));
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            "the topic is missing: make it first"
        }
        Code::TopicAuthorizationFailed => "the user may not write to the topic: grant it WRITE and DESCRIBE",
        Code::ClusterAuthorizationFailed => {
            "the user may not write idempotently: grant it IDEMPOTENT_WRITE on the cluster"
        }
        Code::Authentication | Code::SaslAuthenticationFailed => "the brokers refuse user and password: correct them",
        Code::SSL => "the TLS handshake failed: see to `authorities` and to the brokers' certificates",
        Code::AllBrokersDown | Code::BrokerTransportFailure => "no broker can be reached",
        Code::Resolve => "the name of a broker could not be resolved",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "too few replicas are in sync (min.insync.replicas)"
        }
        Code::QueueFull => "too much waits for acknowledgements",
        Code::KafkaStorageError => "the broker's disk failed or is full",
        _ => "the message was not stored",
    };
    Failure::transient(format!("Kafka: {told} ({code:?})"))
}
