//! The client libraries of the sinks alone: documents from memory to a server, each acknowledged as for a sink.

use crate::Outcome;
use async_nats::jetstream::{self, message::PublishMessage};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use lapin::{
    BasicProperties, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{FieldTable, ShortString},
};
use redis::AsyncConnectionConfig;
use serde_json::{Value, value::RawValue};
use std::collections::HashMap;
use tokio_postgres::{NoTls, types::ToSql};

/// Documents that are sent before the first of them is waited for, as many as a sink gets at once.
const BATCH: usize = 256;
/// Batches under way at once: as much together as the service has under way.
const BATCHES: usize = 16;
/// Connections to PostgreSQL, one batch on each: as many as the sink has when it is not told otherwise.
const CONNECTIONS: usize = 4;

/// Columns of the sink's table that are filled: name, type, and which attribute of a document it holds.
const COLUMNS: [(&str, &str, &str); 14] = [
    ("id", "text", "id"),
    ("source", "text", "source"),
    ("type", "text", "type"),
    ("connection_id", "text", "subject"),
    ("user_id", "text", "linxouser"),
    ("channel_id", "text", "linxochannel"),
    ("mode", "text", "linxomode"),
    ("time", "timestamptz", "time"),
    ("completion", "text", "linxocompletion"),
    ("account_count", "bigint", "linxoaccounts"),
    ("mismatch", "boolean", "linxomismatch"),
    ("stale", "boolean", "linxostale"),
    ("as_of", "timestamptz", "time"),
    ("data", "json", "data"),
];

/// What is published of a delivery.
pub(crate) struct Document {
    id: String,
    /// As a broker gets it.
    text: Bytes,
    /// As it stands in a table: one text for each of [`COLUMNS`].
    row: Vec<Option<String>>,
}

impl Document {
    /// Of a line that the sink of a file has written.
    pub(crate) fn new(line: &str) -> Outcome<Self> {
        let parsed: HashMap<&str, &RawValue> = serde_json::from_str(line)?;
        let column = |(_, kind, attribute): (&str, &str, &str)| match (parsed.get(attribute), kind) {
            (Some(value), "json") => Ok(Some(value.get().to_owned())),
            (Some(value), _) => Ok(Some(
                serde_json::from_str::<Value>(value.get())?
                    .as_str()
                    .map_or_else(|| value.get().to_owned(), str::to_owned),
            )),
            (None, "boolean") => Ok(Some("false".to_owned())),
            (None, _) => Outcome::Ok(None),
        };
        let row = COLUMNS.into_iter().map(column).collect::<Outcome<Vec<_>>>()?;
        let id = row.first().cloned().flatten().ok_or("a line has no id")?;
        Ok(Self { id, text: line.to_owned().into(), row })
    }
}

/// A stream that keeps everything on the disk.
pub(crate) async fn nats(address: &str, subject: &str, documents: &[Document]) -> Outcome<()> {
    let jetstream = jetstream::new(async_nats::connect(address).await?);
    batches(documents, |batch| {
        let jetstream = &jetstream;
        async move {
            let mut sent = Vec::new();
            for Document { id, text, .. } in batch {
                let message = PublishMessage::build().payload(text.clone()).message_id(id);
                sent.push(jetstream.send_publish(subject.to_owned(), message).await?);
            }
            for acknowledgement in sent {
                acknowledgement.await?;
            }
            Ok(())
        }
    })
    .await
}

/// Makes a stream for a subject.
pub(crate) async fn nats_stream(address: &str, subject: &str) -> Outcome<()> {
    let jetstream = jetstream::new(async_nats::connect(address).await?);
    let config = jetstream::stream::Config {
        name: subject.to_owned(),
        subjects: vec![subject.to_owned()],
        ..jetstream::stream::Config::default()
    };
    jetstream.create_stream(config).await?;
    Ok(())
}

/// Messages to a queue, by the default exchange.
pub(crate) async fn amqp(url: &str, queue: &str, documents: &[Document]) -> Outcome<()> {
    let connection = lapin::Connection::connect(url, ConnectionProperties::default()).await?;
    let queue = &ShortString::try_new(queue)?;
    batches(documents, |batch| {
        let connection = &connection;
        async move {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let mut sent = Vec::new();
            for Document { id, text, .. } in batch {
                // 2: persistent.
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_message_id(ShortString::try_new(id.as_str())?);
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                sent.push(
                    channel.basic_publish(ShortString::default(), queue.clone(), options, text, properties).await?,
                );
            }
            for confirm in sent {
                confirm.await?;
            }
            Ok(())
        }
    })
    .await
}

/// Makes a durable queue, or deletes it with all that is in it.
pub(crate) async fn amqp_queue(url: &str, queue: &str, is_wanted: bool) -> Outcome<()> {
    let connection = lapin::Connection::connect(url, ConnectionProperties::default()).await?;
    let (channel, queue) = (connection.create_channel().await?, ShortString::try_new(queue)?);
    if is_wanted {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue, options, FieldTable::default()).await?;
    } else {
        channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

/// Entries of a stream.
pub(crate) async fn redis(address: &str, key: &str, documents: &[Document]) -> Outcome<()> {
    // The library gives up after half a second otherwise, and sixteen batches wait for one another's syncs.
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(format!("redis://{address}"))?;
    let connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    batches(documents, |batch| {
        let mut connection = connection.clone();
        async move {
            let mut pipeline = redis::pipe();
            for Document { id, text, .. } in batch {
                pipeline.cmd("XADD").arg(key).arg("*").arg("id").arg(id).arg("event").arg(&text[..]).ignore();
            }
            Ok(pipeline.query_async::<()>(&mut connection).await?)
        }
    })
    .await
}

/// Rows of a table like the sink's own, a batch at a time on each connection.
pub(crate) async fn postgres(url: &str, table: &str, documents: &[Document]) -> Outcome<()> {
    let names = COLUMNS.map(|(name, ..)| name).join(", ");
    let arrays: Vec<String> = (1..=COLUMNS.len()).map(|number| format!("${number}::text[]")).collect();
    let insert = format!(
        "INSERT INTO {table} ({names}) SELECT {} FROM unnest({}) AS row ({names}) ON CONFLICT (id) DO NOTHING",
        COLUMNS.map(|(name, kind, _)| format!("{name}::{kind}")).join(", "),
        arrays.join(", ")
    );
    let (mut clients, share) = (Vec::new(), documents.len().div_ceil(CONNECTIONS).max(1));
    for share in documents.chunks(share) {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driven = tokio::spawn(connection);
        let insert = client.prepare(&insert).await?;
        clients.push(async move {
            for batch in share.chunks(BATCH) {
                let column = |index: usize| batch.iter().map(|document| document.row.get(index)?.as_deref()).collect();
                let columns: Vec<Vec<Option<&str>>> = (0..COLUMNS.len()).map(column).collect();
                let columns: Vec<_> = columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
                client.execute(&insert, &columns).await?;
            }
            drop(client);
            Outcome::Ok(driven.await??)
        });
    }
    try_join_all(clients).await?;
    Ok(())
}

async fn batches<'d, F: Future<Output = Outcome<()>>>(
    documents: &'d [Document],
    publish: impl Fn(&'d [Document]) -> F,
) -> Outcome<()> {
    stream::iter(documents.chunks(BATCH).map(publish)).buffer_unordered(BATCHES).try_collect().await
}
