//! The sink: entries, and the server's answers.

use super::{connection::Connection, fault, settings::Settings};
use crate::{
    broker::{Acknowledged, Batch, CONTENT_TYPE, Dial, Link, Message, Publish},
    opens::{Cause, Opens, Server},
    sink::{Delivery, Error, Failure, Sink},
    template::Headers,
    tls,
};
use ::redis::{Cmd, cmd};
use async_trait::async_trait;
use base::sync::lock;
use futures_util::{FutureExt as _, future::Either};
use std::{
    future::poll_fn,
    path::Path,
    slice::from_ref,
    sync::{Arc, Mutex},
    task::Poll,
};

/// The sink.
pub(super) struct Redis {
    settings: Arc<Settings>,
    dial: Dial,
    fields: Headers,
    link: Arc<Link<Connection>>,
    batch: Batch,
    /// What was warned of last, so that it is said once and not for each connection.
    warned: Mutex<Option<String>>,
}

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Redis::new(self)?))
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

impl Redis {
    /// Reads the files; connects to nothing.
    pub(super) fn new(settings: &Settings) -> Result<Self, tls::Problem> {
        let tls = settings.server.is_encrypted.then(|| tls::config(&settings.tls)).transpose()?;
        Ok(Self {
            dial: Dial::new(settings.server.clone(), tls.map(Arc::new)),
            fields: Headers::new(&settings.fields),
            link: Arc::new(Link::new(settings.timeout)),
            batch: Batch::new(settings.max_message),
            settings: Arc::new(settings.clone()),
            warned: Mutex::default(),
        })
    }

    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let connection = self.link.get(|| Connection::new(&self.settings, &self.dial)).await?;
        let warning = connection.durability.warning();
        let mut warned = lock(&self.warned);
        if *warned != warning {
            if let Some(reason) = &warning {
                let server = self.settings.server.authority();
                tracing::warn!(
                    code = "sink_redis_not_durable",
                    server,
                    reason,
                    "a Redis sink may lose what it took last when its server crashes"
                );
            }
            *warned = warning;
        }
        drop(warned);
        Ok(connection)
    }

    /// `XADD key [MAXLEN ~ n] * id ... content-type ... event ...`
    fn command(&self, message: &Message<'_>) -> Result<Cmd, Failure> {
        let attributes = &message.delivery.attributes;
        let mut command = cmd("XADD");
        command.arg(self.settings.stream.render(attributes)?);
        if let Some(most) = self.settings.maxlen {
            command.arg("MAXLEN").arg("~").arg(most.get());
        }
        command.arg("*").arg("id").arg(attributes.id.as_str()).arg("content-type").arg(CONTENT_TYPE);
        for (name, value) in self.fields.render(attributes)? {
            command.arg(name).arg(value);
        }
        command.arg("event").arg(&message.document[..]);
        Ok(command)
    }
}

/// Connects, logs in, and closes the connection. Says how durable the server is.
pub(super) async fn reach(settings: &Settings) -> Result<Vec<String>, String> {
    let redis = Redis::new(settings).map_err(|problem| base::error::chain(&problem))?;
    let connection = redis.link.get(|| Connection::new(&redis.settings, &redis.dial)).await;
    let connection = connection.map_err(|failure| failure.reason)?;
    Ok(connection.durability.warning().into_iter().collect())
}

#[async_trait]
impl Publish for Redis {
    async fn publish(&self, message: Message<'_>) -> Result<Acknowledged, Failure> {
        let connection = self.connection().await?;
        let command = self.command(&message)?;
        let (link, settings) = (Arc::clone(&self.link), Arc::clone(&self.settings));
        let mut answered = async move {
            let mut redis = connection.redis.clone();
            match redis.send_packed_command(&command).await.and_then(::redis::Value::extract_error) {
                Ok(_) => {
                    link.worked();
                    Ok(())
                }
                Err(error) => {
                    if error.is_timeout() {
                        connection.suspect();
                    }
                    Err(fault::of_appending(&error, &settings))
                }
            }
        }
        .boxed();
        // The library sends when it is asked for the answer, so it is asked here, and the order is kept.
        let first = poll_fn(|context| Poll::Ready(answered.poll_unpin(context))).await;
        Ok(match first {
            Poll::Ready(answer) => Either::Left(std::future::ready(answer)),
            Poll::Pending => Either::Right(answered),
        }
        .boxed())
    }
}

#[async_trait]
impl Sink for Redis {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut results = self.batch.deliver(self, from_ref(delivery)).await;
        results.pop().unwrap_or_else(|| Err(fault::broke().into()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.batch.deliver(self, deliveries).await
    }

    fn batch(&self) -> usize {
        Batch::SIZE
    }
}
