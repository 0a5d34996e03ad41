//! One connection to a broker, its idle channels, and the exchanges that are known to be there.

use super::{
    fault,
    settings::Settings,
    socket::{Leash, leashed, runtime},
};
use crate::{
    broker::{Dial, Live, NAME},
    sink::Failure,
};
use base::sync::lock;
use lapin::{
    AsyncTcpStream, Channel, ConnectionProperties, ErrorKind, ExchangeKind,
    auth::AuthProvider,
    options::{ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use std::{
    collections::HashSet,
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Exchanges that are remembered to be there.
const REMEMBERED: usize = 1024;
/// For the broker to take leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Seconds after which a broker without a sign of life counts as gone (twice that, by the protocol).
const HEARTBEAT: u16 = 10;

/// One connection.
pub(super) struct Connection {
    /// `None` only when it is being dropped.
    open: Option<(lapin::Connection, Leash)>,
    idle: Mutex<Vec<Channel>>,
    known: Mutex<HashSet<String>>,
    /// Nothing came back in time: it is not used any more.
    is_suspect: AtomicBool,
}

impl Live for Connection {
    fn is_alive(&self) -> bool {
        !self.is_suspect.load(Ordering::Relaxed)
            && self.open.as_ref().is_some_and(|(connection, _)| connection.status().connected())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((connection, leash)) = self.open.take() else { return };
        let Ok(tokio) = tokio::runtime::Handle::try_current() else { return };
        tokio.spawn(async move {
            // What the broker says to it, or that it says nothing, changes nothing.
            timeout(FAREWELL, connection.close(200, "bye".into())).await.ok();
            drop(leash);
        });
    }
}

/// Logs in with what the TLS certificate says.
struct External;

impl AuthProvider for External {}

impl Connection {
    /// Connects and logs in. The caller limits the time.
    pub(super) async fn new(settings: &Settings, dial: &Dial) -> Result<Self, Failure> {
        let (socket, leash) = leashed(dial.dial().await?);
        let socket = Mutex::new(Some(socket));
        let take = async move |_, _| {
            // It is asked for once: the library does not connect again by itself.
            let socket = lock(&socket).take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            Ok(AsyncTcpStream::Plain(socket))
        };
        let properties = ConnectionProperties::default().with_connection_name(NAME.into());
        let properties = match (&settings.user, &settings.tls.certificate) {
            (None, Some(_)) => properties.with_auth_provider(External),
            _ => properties,
        };
        let connected = lapin::Connection::connector(uri(settings), runtime(), take, properties).await;
        let connection = connected.map_err(|error| fault::of_connecting(&error, settings))?;
        Ok(Self {
            open: Some((connection, leash)),
            idle: Mutex::default(),
            known: Mutex::default(),
            is_suspect: AtomicBool::new(false),
        })
    }

    fn open(&self) -> Result<&lapin::Connection, Failure> {
        self.open.as_ref().map(|(connection, _)| connection).ok_or_else(fault::broke)
    }

    /// Whether the broker takes nothing from publishers just now.
    pub(super) fn is_blocked(&self) -> bool {
        self.open.as_ref().is_some_and(|(connection, _)| connection.status().blocked())
    }

    /// The broker does not answer over this connection.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    /// A channel with confirms that nobody else uses.
    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        loop {
            let Some(idle) = lock(&self.idle).pop() else { break };
            if idle.status().connected() {
                return Ok(idle);
            }
        }
        let opened = async {
            let channel = self.open()?.create_channel().await.map_err(|error| fault::of_channel(&error))?;
            let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirms.map_err(|error| fault::of_channel(&error))?;
            Ok(channel)
        };
        opened.await
    }

    /// Takes back a channel on which nothing is under way.
    pub(super) fn give_back(&self, channel: Channel) {
        if channel.status().connected() {
            lock(&self.idle).push(channel);
        }
    }

    /// Whether there is such an exchange.
    pub(super) async fn must_have(&self, exchange: &str, settings: &Settings) -> Result<(), Failure> {
        // The default exchange has no name, and is always there.
        if exchange.is_empty() || lock(&self.known).contains(exchange) {
            return Ok(());
        }
        let channel = self.open()?.create_channel().await.map_err(|error| fault::of_channel(&error))?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let name =
            lapin::types::ShortString::try_new(exchange).map_err(|error| Failure::transient(error.to_string()))?;
        let asked = channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default()).await;
        match asked {
            Ok(()) => {
                let mut known = lock(&self.known);
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(exchange.to_owned());
                Ok(())
            }
            // Who may publish need not be allowed to ask.
            Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(said) if said.get_id() == 403) => Ok(()),
            Err(error) => Err(fault::of_exchange(&error, settings)),
        }
    }
}

fn uri(settings: &Settings) -> AMQPUri {
    let (username, password) = match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => (user.clone(), password.expose().to_owned()),
        _ => ("guest".to_owned(), "guest".to_owned()),
    };
    AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username, password },
            host: settings.server.host.clone(),
            port: settings.server.port,
        },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
    }
}
