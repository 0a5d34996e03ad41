//! The way to PostgreSQL: a pool of connections, bounded in size and in waiting.
//!
//! ```text
//! fault     what an error of the server or of the way to it means
//! tls       encryption, and whose certificate is believed
//! session   what a new connection is told and asked before it is used
//! manager   makes connections and tells those that are dead; holds a storm back
//! ```
//!
//! In: the settings. Out: connections that are known to lead to a server which takes writes, keeps what it acknowledges, and
//! holds the inbox that this process knows. Promises:
//! - Nobody waits longer for a connection than he says, whatever the server or the network does.
//! - After a failure nobody tries again for half a second to a second, and then one alone: a server that comes back meets no
//!   storm. Held by the tests beside `manager`.
//! - A password or certificate that was exchanged is used for every connection from then on ([`Link::renew`]).
//!
//! A pooler such as `PgBouncer` in between is refused in plain words: sessions are told here how long a statement may take and
//! which schema is meant, and a pooler forgets or mixes that. This pool makes it unnecessary.

mod fault;
mod manager;
mod session;
mod tls;

pub(crate) use fault::Fault;
pub(crate) use manager::Manager;

use crate::{Error, Identity, Settings, settings::Server};
use deadpool::managed::{self, Object, PoolError, Timeouts};
use deadpool_postgres::ClientWrapper;
use manager::{Access, Way};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// A connection; it goes back to the pool when dropped. Take it out ([`Object::take`]) where it is not known how it stands,
/// for example after a statement that did not end in time.
pub(crate) type Connection = Object<Manager>;

/// PostgreSQL that does not answer for as long as this is away.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Connections to the keys store at most: each is used for one statement at a time.
const KEYS_CONNECTIONS: usize = 4;

/// The connections of one process. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: managed::Pool<Manager>,
    way: Arc<Way>,
    /// Whether it was closed, for those who listen.
    closed: Arc<watch::Sender<bool>>,
    /// The way to the keys store of the inbox. `None`: this is that way.
    keys: Option<Box<Pool>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("server", self.way.server()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Prepares the way to this server, and to the keys store of its inbox; nothing is connected to yet.
    ///
    /// # Errors
    /// [`Fault::Unfit`]: a file of certificates cannot be used.
    pub(crate) fn new(server: &Server, settings: &Settings) -> Result<Self, Fault> {
        let keys = Self::lone(settings.keys_server(server), settings, KEYS_CONNECTIONS)?;
        Ok(Self { keys: Some(Box::new(keys)), ..Self::lone(server.clone(), settings, settings.connections)? })
    }

    fn lone(server: Server, settings: &Settings, most: usize) -> Result<Self, Fault> {
        let way = Arc::new(Way::new(server, settings)?);
        let connections = managed::Pool::builder(Manager::new(Arc::clone(&way)))
            .max_size(most)
            .build()
            .map_err(|error| Fault::Unfit(error.to_string()))?;
        Ok(Self { connections, way, closed: Arc::default(), keys: None })
    }

    /// The way to the keys store of the inbox.
    pub(crate) fn keys(&self) -> &Self {
        self.keys.as_deref().unwrap_or(self)
    }

    /// A connection, waited for at most so long: for a free place among the connections, and for the server.
    ///
    /// # Errors
    /// [`Fault`]; [`Fault::Away`] when the time is over.
    ///
    /// # Cancel safety
    /// Safe: a connection that is being made is given up.
    pub(crate) async fn get(&self, within: Duration) -> Result<Connection, Fault> {
        // Each part has no limit of its own: the whole has.
        let none = Timeouts::default();
        match tokio::time::timeout(within, self.connections.timeout_get(&none)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(fault))) => Err(fault),
            Ok(Err(PoolError::Closed)) => Err(Fault::Closed),
            Ok(Err(error)) => Err(Fault::Away(error.to_string())),
            Err(_elapsed) => Err(Fault::Away(self.lateness(within))),
        }
    }

    /// Listens on a channel of the server, over a connection of its own.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn listen(&self, channel: &str) -> Result<Heard, Fault> {
        let (told, payloads) = mpsc::unbounded_channel();
        let client = self.way.attempt(Some(told)).await?;
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        Ok(Heard { _client: client, payloads, closed: self.closed.subscribe() })
    }

    /// Why nobody got a connection in time.
    fn lateness(&self, within: Duration) -> String {
        let status = self.connections.status();
        if status.available == 0 && status.size >= status.max_size {
            format!("all {} connections (inbox.connections) were in use for {within:?}", status.max_size)
        } else {
            format!("PostgreSQL did not answer within {within:?}")
        }
    }

    /// From now on a connection to another inbox than this one is refused ([`Fault::Foreign`]).
    pub(crate) fn expect(&self, identity: Identity) {
        self.way.expect(identity);
    }

    /// Settings of the server that are allowed, and should be known: one sentence each.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn remarks(&self, within: Duration) -> Result<Vec<String>, Fault> {
        Ok(session::remarks(&**self.get(within).await?).await?)
    }

    /// Says that the server held another inbox than is expected, when a connection to it was last tried.
    pub(crate) fn foreign(&self) -> Option<Fault> {
        self.way.fault().filter(|fault| matches!(fault, Fault::Foreign { .. } | Fault::Empty { .. }))
    }

    /// Sees to it that the server can be reached and has an inbox. Returns which one.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn must_have_inbox(&self, within: Duration) -> Result<Identity, Fault> {
        self.holds(within).await?.ok_or_else(|| Fault::Empty { schema: self.server().schema().to_owned() })
    }

    /// Which inbox the server holds, or which one the keys are of; `None`: there is nothing.
    ///
    /// # Errors
    /// [`Fault`]: it cannot be reached, or must not be used.
    pub(crate) async fn holds(&self, within: Duration) -> Result<Option<Identity>, Fault> {
        drop(self.get(within).await?);
        Ok(self.way.found())
    }

    /// Which server, which schema.
    pub(crate) fn server(&self) -> &Server {
        self.way.server()
    }

    /// Gives out no connection any more.
    pub(crate) fn close(&self) {
        self.connections.close();
        self.closed.send_replace(true);
        if let Some(keys) = &self.keys {
            keys.close();
        }
    }
}

/// What is heard on a channel, as long as the connection lasts.
pub(crate) struct Heard {
    _client: ClientWrapper,
    payloads: mpsc::UnboundedReceiver<String>,
    closed: watch::Receiver<bool>,
}

impl Heard {
    /// The next payload; `None`: the connection has ended, or the pool was closed.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<String> {
        tokio::select! {
            payload = self.payloads.recv() => payload,
            _ = self.closed.wait_for(|closed| *closed) => None,
        }
    }
}

/// How a server is reached, for who exchanges the password and the certificates. Clones share it.
#[derive(Clone, Debug)]
pub struct Link(Pool);

/// A password and certificates, read and checked: for the inbox, and for its keys store.
#[derive(Clone)]
pub struct Prepared([Access; 2]);

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared(***)")
    }
}

impl Link {
    pub(crate) const fn new(pool: Pool) -> Self {
        Self(pool)
    }

    /// Reads the password and the certificates of these settings; nothing is exchanged yet.
    ///
    /// # Errors
    /// [`Error::Unusable`]: a file of certificates cannot be used.
    pub fn prepare(&self, settings: &Settings) -> Result<Prepared, Error> {
        let access = |pool: &Pool| Access::new(pool.server(), settings);
        Ok(Prepared([access(&self.0)?, access(self.0.keys())?]))
    }

    /// New connections are made with these from now on.
    pub fn renew(&self, prepared: Prepared) {
        let Prepared([inbox, keys]) = prepared;
        self.0.way.renew(inbox);
        self.0.keys().way.renew(keys);
    }
}
