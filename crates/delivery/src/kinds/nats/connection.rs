//! One connection to a NATS server, and what the server says apart from the answers.

use super::{fault, settings::Settings};
use crate::{
    broker::{Live, NAME, could_not_connect},
    sink::Failure,
};
use async_nats::{
    Client, ConnectOptions, Event, ServerError,
    jetstream::{Context, context::ContextBuilder},
};
use base::outbound;
use std::{io, sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch};

/// What is told of at once; who is late to hear it waits for its acknowledgement in vain.
const TOLD: usize = 1024;
/// After so long without a word from the server it is asked whether it is there.
const PING: Duration = Duration::from_secs(15);

/// What the server does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// To publish on this subject.
    Publish(Arc<str>),
    /// To subscribe, which is how acknowledgements come back.
    Inbox,
}

/// What the server says apart from the answers.
pub(super) struct Said {
    pub(super) denied: broadcast::Sender<Denied>,
    /// Whether the connection broke.
    pub(super) lost: watch::Sender<bool>,
}

impl Said {
    fn hear(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed | Event::LameDuckMode => {
                self.lost.send_replace(true);
            }
            Event::ServerError(ServerError::Other(text)) => {
                if let Some(denied) = denied(text) {
                    // Nobody may be waiting.
                    self.denied.send(denied).ok();
                }
            }
            _ => {}
        }
    }
}

/// Reads `Permissions Violation for Publish to "subject"`, whose spelling differs between versions in upper and lower case.
fn denied(text: &str) -> Option<Denied> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains("permissions violation") {
        return None;
    }
    if lower.contains("subscription") {
        return Some(Denied::Inbox);
    }
    let mut quoted = text.split('"');
    quoted.nth(1).map(|subject| Denied::Publish(subject.into()))
}

/// One connection.
pub(super) struct Connection {
    pub(super) jetstream: Context,
    pub(super) client: Client,
    pub(super) said: Arc<Said>,
}

impl Live for Connection {
    fn is_alive(&self) -> bool {
        !*self.said.lost.borrow()
    }
}

/// How the sink logs in and whom it trusts, without what concerns one connection.
pub(super) fn options(settings: &Settings) -> io::Result<ConnectOptions> {
    let options = ConnectOptions::new();
    let options = match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => options.user_and_password(user.clone(), password.expose().to_owned()),
        _ => options,
    };
    let options = match &settings.token {
        Some(token) => options.token(token.expose().to_owned()),
        None => options,
    };
    let options = match &settings.nkey {
        Some(seed) => options.nkey(seed.expose().to_owned()),
        None => options,
    };
    match &settings.credentials {
        Some(credentials) => options.credentials(credentials.expose()),
        None => Ok(options),
    }
}

/// Connects to one of the servers.
pub(super) async fn connect(settings: &Settings, tls: Option<&rustls::ClientConfig>) -> Result<Connection, Failure> {
    let addresses = judged(settings).await?;
    let said = Arc::new(Said { denied: broadcast::channel(TOLD).0, lost: watch::channel(false).0 });
    let hears = Arc::clone(&said);
    let options = options(settings).map_err(|error| could_not_connect(&error))?;
    let options = options
        .name(NAME)
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .ping_interval(PING)
        .ignore_discovered_servers()
        .max_reconnects(addresses.len())
        .reconnect_delay_callback(|_tries| Duration::ZERO)
        .event_callback(move |event| {
            hears.hear(&event);
            std::future::ready(())
        });
    let options = match tls {
        Some(config) if settings.servers.iter().any(|server| server.is_encrypted) => {
            options.require_tls(true).tls_client_config(config.clone())
        }
        _ => options,
    };
    let client = options.connect(addresses).await.map_err(|error| fault::of_connecting(&error, settings))?;
    let jetstream = ContextBuilder::new()
        .timeout(settings.timeout)
        .ack_timeout(settings.timeout)
        .backpressure_on_inflight(true)
        .build(client.clone());
    Ok(Connection { jetstream, client, said })
}

/// The servers whose names lead to addresses that may be connected to. The client resolves them once more.
async fn judged(settings: &Settings) -> Result<Vec<async_nats::ServerAddr>, Failure> {
    let (mut fine, mut last) = (Vec::new(), Failure::transient("no server is configured"));
    for server in &settings.servers {
        match outbound::resolve(&server.host, server.port).await {
            Err(error) => last = could_not_connect(&error),
            Ok(_) => {
                let scheme = if server.is_encrypted { "tls" } else { "nats" };
                match format!("{scheme}://{}", server.authority()).parse() {
                    Ok(address) => fine.push(address),
                    Err(error) => last = could_not_connect(&error),
                }
            }
        }
    }
    if fine.is_empty() { Err(last) } else { Ok(fine) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_forbids_is_understood() {
        let subject = Denied::Publish("linxo.1".into());
        assert_eq!(denied("Permissions Violation for Publish to \"linxo.1\""), Some(subject.clone()));
        assert_eq!(denied("permissions violation for publish to \"linxo.1\""), Some(subject));
        assert_eq!(denied("Permissions Violation for Subscription to \"_INBOX.x.*\""), Some(Denied::Inbox));
        assert_eq!(denied("Stale Connection"), None);
    }
}
