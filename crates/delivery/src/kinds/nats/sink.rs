//! The sink: messages with their headers, and their acknowledgements.

use super::{
    connection::{Connection, Denied, connect, options},
    fault,
    settings::Settings,
};
use crate::{
    broker::{Acknowledged, Batch, CONTENT_TYPE, Link, Message, Publish, too_large},
    cloudevent::header_value,
    opens::{Cause, Opens, Server},
    sink::{Delivery, Error, Failure, Sink},
    template::Headers,
    tls,
};
use async_nats::{
    HeaderMap, HeaderValue,
    header::HeaderName,
    jetstream::context::{GetStreamByNameErrorKind, PublishAckFuture, PublishErrorKind},
    jetstream::message::PublishMessage,
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{io, path::Path, sync::Arc};
use tokio::sync::broadcast::error::RecvError;

/// Why the sink cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Tls(#[from] tls::Problem),
    #[error("cannot use the credentials")]
    Credentials(#[source] io::Error),
}

/// The sink.
pub(super) struct Nats {
    settings: Arc<Settings>,
    tls: Option<rustls::ClientConfig>,
    headers: Headers,
    link: Arc<Link<Connection>>,
    batch: Batch,
}

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Nats::new(self)?))
    }

    fn server(&self) -> Option<Server> {
        let host = self.servers.iter().map(::settings::urls::Server::authority).collect::<Vec<_>>().join(", ");
        let settings = self.clone();
        Some(Server { host, reach: Box::pin(async move { reach(&settings).await }) })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

impl Nats {
    /// Reads the files; connects to nothing.
    pub(super) fn new(settings: &Settings) -> Result<Self, Problem> {
        let is_encrypted = settings.servers.iter().any(|server| server.is_encrypted);
        options(settings).map_err(Problem::Credentials)?;
        Ok(Self {
            tls: is_encrypted.then(|| tls::config(&settings.tls)).transpose()?,
            headers: Headers::new(&settings.headers),
            link: Arc::new(Link::new(settings.timeout)),
            batch: Batch::new(settings.max_message),
            settings: Arc::new(settings.clone()),
        })
    }

    fn message(&self, message: &Message<'_>) -> Result<PublishMessage, Failure> {
        let attributes = &message.delivery.attributes;
        let mut headers = HeaderMap::new();
        let id = header_value(attributes.id.as_str());
        let own = [("Content-Type", CONTENT_TYPE.to_owned()), ("Nats-Msg-Id", id.into_owned())];
        for (name, value) in self.headers.render(attributes)?.into_iter().chain(own) {
            let odd =
                |_: async_nats::header::ParseHeaderNameError| Failure::transient("a header's name cannot be written");
            let name: HeaderName = name.parse().map_err(odd)?;
            headers.insert(name, HeaderValue::from(value));
        }
        Ok(PublishMessage::build().payload(message.document.clone()).headers(headers))
    }
}

/// Connects, asks whether there is `JetStream`, and closes the connection.
pub(super) async fn reach(settings: &Settings) -> Result<Vec<String>, String> {
    let nats = Nats::new(settings).map_err(|problem| base::error::chain(&problem))?;
    let connection = nats.link.get(|| connect(&nats.settings, nats.tls.as_ref())).await;
    let connection = connection.map_err(|failure| failure.reason)?;
    // Asked for by a list of streams: what servers say of an account differs between versions.
    Ok(match connection.jetstream.stream_names().next().await {
        None | Some(Ok(_)) => Vec::new(),
        Some(Err(error)) => vec![format!("whether JetStream is on could not be seen: {}", base::error::chain(&error))],
    })
}

#[async_trait]
impl Publish for Nats {
    async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure> {
        let connection = self.link.get(|| connect(&self.settings, self.tls.as_ref())).await?;
        let subject = self.settings.subject.render(&message.delivery.attributes)?;
        let largest = connection.client.max_payload();
        let publish = self.message(&message)?;
        let mut denied = connection.said.denied.subscribe();
        let sent = connection.jetstream.send_publish(subject.clone(), publish).await.map_err(|error| {
            if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                let limit = format!("the server's max_payload is {largest} bytes: raise it there");
                return too_large(message.document.len() as u64, &limit);
            }
            fault::of_publishing(&error)
        })?;
        let (link, settings) = (Arc::clone(&self.link), Arc::clone(&self.settings));
        Ok(Box::pin(async move {
            let mut lost = connection.said.lost.subscribe();
            let mut acknowledged = std::pin::pin!(acknowledged(sent, &connection, &subject, &settings));
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut acknowledged => break result,
                    _ = lost.wait_for(|lost| *lost) => break Err(broke()),
                    said = denied.recv() => match said {
                        Ok(Denied::Publish(forbidden)) if *forbidden == *subject => break Err(fault::forbidden(&settings)),
                        Ok(Denied::Inbox) => {
                            connection.said.lost.send_replace(true);
                            break Err(fault::no_inbox());
                        }
                        Ok(Denied::Publish(_)) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => break Err(broke()),
                    },
                }
            };
            if result.is_ok() {
                link.worked();
            }
            result
        }))
    }
}

fn broke() -> Failure {
    Failure::transient("the connection broke before the message was acknowledged")
}

/// The stream's answer, and where there is none, why.
async fn acknowledged(
    sent: PublishAckFuture,
    connection: &Connection,
    subject: &str,
    settings: &Settings,
) -> Result<(), Failure> {
    let Err(error) = sent.await else { return Ok(()) };
    Err(match error.kind() {
        PublishErrorKind::StreamNotFound => match connection.jetstream.stream_by_subject(subject).await {
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => fault::no_stream(settings),
            _ => fault::no_jetstream(),
        },
        PublishErrorKind::TimedOut => {
            // A connection on which nothing comes back is not trusted any further.
            connection.said.lost.send_replace(true);
            fault::late(settings)
        }
        PublishErrorKind::BrokenPipe => broke(),
        _ => fault::of_publishing(&error),
    })
}

#[async_trait]
impl Sink for Nats {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut results = self.batch.deliver(self, std::slice::from_ref(delivery)).await;
        results.pop().unwrap_or_else(|| Err(broke().into()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.batch.deliver(self, deliveries).await
    }

    fn batch(&self) -> usize {
        Batch::SIZE
    }
}
