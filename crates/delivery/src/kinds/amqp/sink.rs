//! The sink: messages with their properties, and their confirms.

use super::{connection::Connection, fault, settings::Settings};
use crate::{
    broker::{Acknowledged, Batch, CONTENT_TYPE, Dial, Link, Message, NAME, Publish},
    cloudevent::header_value,
    opens::{Cause, Opens, Server},
    sink::{Delivery, Error, Failure, Sink},
    template::Headers,
    tls,
};
use async_trait::async_trait;
use lapin::{
    BasicProperties, Channel, Confirmation, ErrorKind, PublisherConfirm,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use std::{
    path::Path,
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::time::timeout;

/// The broker's default exchange, which has no name of its own.
const DEFAULT_EXCHANGE: &str = "amq.default";
/// Written to disk in durable queues.
const PERSISTENT: u8 = 2;

/// The sink.
pub(super) struct Amqp {
    settings: Arc<Settings>,
    dial: Dial,
    headers: Headers,
    link: Arc<Link<Connection>>,
    batch: Batch,
}

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Amqp::new(self)?))
    }

    fn server(&self) -> Option<Server> {
        let settings = self.clone();
        Some(Server { host: self.server.authority(), reach: Box::pin(async move { reach(&settings).await }) })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

impl Amqp {
    /// Reads the files; connects to nothing.
    pub(super) fn new(settings: &Settings) -> Result<Self, tls::Problem> {
        let tls = settings.server.is_encrypted.then(|| tls::config(&settings.tls)).transpose()?;
        Ok(Self {
            dial: Dial::new(settings.server.clone(), tls.map(Arc::new)),
            headers: Headers::new(&settings.headers),
            link: Arc::new(Link::new(settings.timeout)),
            batch: Batch::new(settings.max_message),
            settings: Arc::new(settings.clone()),
        })
    }

    /// Delivers on one channel. Says whether a message made the broker close the channel.
    async fn on_one_channel(&self, deliveries: &[Delivery]) -> (Vec<Result<(), Error>>, bool) {
        let session = match self.session().await {
            Ok(session) => session,
            Err(failure) => return (deliveries.iter().map(|_| Err(failure.clone().into())).collect(), false),
        };
        let results = self.batch.deliver(&session, deliveries).await;
        let was_closed = session.state.was_closed.load(Ordering::Relaxed);
        // What was not confirmed may still be confirmed one day: nobody else is to get that answer.
        if !was_closed && !session.state.is_spoiled.load(Ordering::Relaxed) {
            session.connection.give_back(session.channel);
        }
        (results, was_closed)
    }

    async fn session(&self) -> Result<Session<'_>, Failure> {
        let connection = self.link.get(|| Connection::new(&self.settings, &self.dial)).await?;
        if connection.is_blocked() {
            return Err(fault::blocked());
        }
        let Ok(channel) = timeout(self.settings.timeout, connection.channel()).await else {
            connection.suspect();
            return Err(fault::late(&self.settings));
        };
        Ok(Session { sink: self, channel: channel?, connection, state: Arc::default() })
    }
}

/// Connects, logs in, looks whether the exchange is there where its name is fixed, and closes the connection.
pub(super) async fn reach(settings: &Settings) -> Result<Vec<String>, String> {
    let amqp = Amqp::new(settings).map_err(|problem| base::error::chain(&problem))?;
    let connection = amqp.link.get(|| Connection::new(&amqp.settings, &amqp.dial)).await;
    let connection = connection.map_err(|failure| failure.reason)?;
    let Some(exchange) = settings.exchange.fixed().filter(|exchange| *exchange != DEFAULT_EXCHANGE) else {
        return Ok(Vec::new());
    };
    let asked = timeout(settings.timeout, connection.must_have(exchange, settings)).await;
    asked.unwrap_or_else(|_late| Err(fault::late(settings))).map_err(|failure| failure.reason)?;
    Ok(Vec::new())
}

/// What became of a channel.
#[derive(Default)]
struct State {
    was_closed: AtomicBool,
    is_spoiled: AtomicBool,
}

/// A channel that one batch has to itself.
struct Session<'s> {
    sink: &'s Amqp,
    connection: Arc<Connection>,
    channel: Channel,
    state: Arc<State>,
}

impl Session<'_> {
    fn failed(&self, error: &lapin::Error) -> Failure {
        failed(error, &self.state, &self.sink.settings)
    }

    fn properties(&self, delivery: &Delivery) -> Result<BasicProperties, Failure> {
        let attributes = &delivery.attributes;
        let mut headers = FieldTable::default();
        for (name, value) in self.sink.headers.render(attributes)? {
            // Names were checked when they were read.
            if let Ok(name) = ShortString::try_new(name) {
                headers.insert(name, AMQPValue::LongString(LongString::from(value)));
            }
        }
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id(NAME.into())
            .with_headers(headers);
        let properties = match ShortString::try_new(attributes.cloud_type.as_str()) {
            Ok(kind) => properties.with_type(kind),
            Err(_) => properties,
        };
        // An id that is too long for a property stands in the document alone.
        Ok(match ShortString::try_new(header_value(attributes.id.as_str())) {
            Ok(id) => properties.with_message_id(id),
            Err(_) => properties,
        })
    }
}

fn failed(error: &lapin::Error, state: &State, settings: &Settings) -> Failure {
    let of_channel = matches!(error.kind(), ErrorKind::ProtocolError(_));
    if of_channel {
        state.was_closed.store(true, Ordering::Relaxed);
    }
    state.is_spoiled.store(true, Ordering::Relaxed);
    fault::of_publishing(error, settings)
}

#[async_trait]
impl Publish for Session<'_> {
    async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure> {
        let (connection, settings) = (Arc::clone(&self.connection), &self.sink.settings);
        let attributes = &message.delivery.attributes;
        let (mut exchange, key) = (settings.exchange.render(attributes)?, settings.routing_key.render(attributes)?);
        if exchange == DEFAULT_EXCHANGE {
            exchange.clear();
        }
        let short = |text: String| ShortString::try_new(text).map_err(|error| Failure::transient(error.to_string()));
        let published = timeout(settings.timeout, async {
            connection.must_have(&exchange, settings).await?;
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = self.properties(message.delivery)?;
            let (exchange, key) = (short(exchange)?, short(key)?);
            let sent = self.channel.basic_publish(exchange, key, options, &message.document, properties).await;
            sent.map_err(|error| self.failed(&error))
        });
        let Ok(confirm) = published.await else {
            return Err(late(&connection, &self.state, settings));
        };
        let (link, settings, state) = (Arc::clone(&self.sink.link), Arc::clone(settings), Arc::clone(&self.state));
        let confirm = confirm?;
        Ok(Box::pin(async move {
            let confirmed = confirmed(confirm, &connection, &state, &settings).await;
            if confirmed.is_ok() {
                link.worked();
            }
            confirmed
        }))
    }
}

async fn confirmed(
    confirm: PublisherConfirm,
    connection: &Connection,
    state: &State,
    settings: &Settings,
) -> Result<(), Failure> {
    let Ok(confirmation) = timeout(settings.timeout, confirm).await else {
        return Err(late(connection, state, settings));
    };
    match confirmation.map_err(|error| failed(&error, state, settings))? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message)) => {
            Err(fault::returned(&message, settings))
        }
        Confirmation::Nack(None) | Confirmation::NotRequested => Err(fault::not_kept()),
    }
}

/// Nothing came in time.
fn late(connection: &Connection, state: &State, settings: &Settings) -> Failure {
    state.is_spoiled.store(true, Ordering::Relaxed);
    if connection.is_blocked() {
        return fault::blocked();
    }
    connection.suspect();
    fault::late(settings)
}

#[async_trait]
impl Sink for Amqp {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let (mut results, _) = self.on_one_channel(from_ref(delivery)).await;
        results.pop().unwrap_or_else(|| Err(fault::broke().into()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        let (mut results, was_closed) = self.on_one_channel(deliveries).await;
        if was_closed && deliveries.len() > 1 {
            for (delivery, result) in deliveries.iter().zip(&mut results) {
                if matches!(result, Err(Error::Failed(_))) {
                    *result = self.deliver(delivery).await;
                }
            }
        }
        results
    }

    fn batch(&self) -> usize {
        Batch::SIZE
    }
}
