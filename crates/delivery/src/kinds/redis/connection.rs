//! One connection to a Redis server, and how durable what it answers is.

use super::{fault, settings::Settings};
use crate::{
    broker::{Dial, Live},
    sink::Failure,
};
use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, aio::MultiplexedConnection, cmd};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// One connection.
pub(super) struct Connection {
    pub(super) redis: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Nothing came back in time: it is not used any more.
    is_suspect: AtomicBool,
    pub(super) durability: Durability,
}

/// What the server's answer is worth when its machine loses power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// An entry is on the disk before the answer.
    Synced,
    /// It is not.
    Memory {
        /// `appendonly`
        appendonly: String,
        /// `appendfsync`
        appendfsync: String,
    },
    /// The server does not say.
    Unseen,
}

impl Durability {
    /// What a person should know.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Synced => None,
            Self::Memory { appendonly, appendfsync } => Some(format!(
                "the server answers before an event is on its disk (appendonly {appendonly}, appendfsync {appendfsync}): what \
                 it took last is lost when it crashes; set appendonly yes and appendfsync always"
            )),
            Self::Unseen => Some(
                "whether the server syncs before it answers could not be seen, because CONFIG is forbidden: make sure of \
                 appendonly yes and appendfsync always, or what it took last is lost when it crashes"
                    .to_owned(),
            ),
        }
    }
}

impl Live for Connection {
    fn is_alive(&self) -> bool {
        !self.is_suspect.load(Ordering::Relaxed) && !self.driver.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects, logs in and looks at the server's settings. The caller limits the time.
    pub(super) async fn new(settings: &Settings, dial: &Dial) -> Result<Self, Failure> {
        let socket = dial.dial().await?;
        let mut info = RedisConnectionInfo::default().set_db(settings.database.into());
        if let Some(user) = &settings.user {
            info = info.set_username(user);
        }
        if let Some(password) = &settings.password {
            info = info.set_password(password.expose());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(settings.timeout));
        let connected = MultiplexedConnection::new_with_config(&info, socket, config).await;
        let (mut redis, driver) = connected.map_err(|error| fault::of_connecting(&error, settings))?;
        let driver = tokio::spawn(driver);
        let durability = durability(&mut redis).await;
        Ok(Self { redis, driver, is_suspect: AtomicBool::new(false), durability })
    }

    /// The server does not answer over this connection.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }
}

async fn durability(redis: &mut MultiplexedConnection) -> Durability {
    let mut ask = async |name: &str| -> Result<String, RedisError> {
        let pair: Vec<String> = cmd("CONFIG").arg("GET").arg(name).query_async(redis).await?;
        Ok(pair.into_iter().nth(1).unwrap_or_default())
    };
    let (Ok(appendonly), Ok(appendfsync)) = (ask("appendonly").await, ask("appendfsync").await) else {
        return Durability::Unseen;
    };
    match (appendonly.as_str(), appendfsync.as_str()) {
        ("yes", "always") => Durability::Synced,
        ("", _) | (_, "") => Durability::Unseen,
        _ => Durability::Memory { appendonly, appendfsync },
    }
}
