//! Connections to the server: few, kept, and made anew when they end.
//!
//! Names are resolved and judged for each connection ([`outbound`]), and the connection goes to the judged address. A
//! connection that was given up half-way is closed and never used again, because nobody knows what the server still sends on it.
//! When to try again after a failure is not decided here: whoever delivers asks a sink that is down less and less often.

use super::{fault, settings::Settings};
use crate::{fault::words, sink::Failure, tls};
use base::{error::chain, outbound, secret::Secret};
use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult};
use rustls::ClientConfig;
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::Host};
use tokio_postgres_rustls::MakeRustlsConnect;

/// To reach the server, TLS included; less where the whole attempt may take less.
const CONNECT: Duration = Duration::from_secs(5);
/// Data that nobody confirmed for as long as this means that the server is gone.
const UNCONFIRMED: Duration = Duration::from_secs(10);
/// Silence after which the network is asked whether the server is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// One round trip, for what should be known of a server.
const FACTS: &str = "SELECT current_setting('fsync'), current_setting('server_encoding')";
/// What an operator must know of a server that may lose what it acknowledged.
pub(super) const FORGETS: &str =
    "fsync is off in PostgreSQL, so it may lose what it acknowledged when it crashes: switch it on";

/// The way to one server.
pub(super) struct Way {
    base: Config,
    password: Option<Secret>,
    tls: Option<ClientConfig>,
    /// Whether it was said already that the server may forget.
    is_told: AtomicBool,
}

/// A connection, ended when dropped.
pub(super) struct Session {
    pub(super) client: Client,
    driver: AbortHandle,
    /// Whether the server may lose what it acknowledged.
    pub(super) forgets: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The connections of one sink.
pub(super) type Pool = managed::Pool<Way>;

/// Reads the files of TLS. Blocking; connects to nothing.
pub(super) fn pool(settings: &Settings) -> Result<Pool, Problem> {
    let tls = settings.server.is_encrypted().then(|| tls::config(&settings.tls)).transpose().map_err(Problem::Tls)?;
    let mut base = settings.server.config().clone();
    base.connect_timeout(CONNECT.min(settings.timeout)).tcp_user_timeout(UNCONFIRMED).keepalives_idle(SILENCE);
    let way = Way { base, password: settings.password.clone(), tls, is_told: AtomicBool::new(false) };
    managed::Pool::builder(way).max_size(settings.connections).build().map_err(Problem::Pool)
}

/// Why the sink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// A file of TLS.
    #[error("TLS to PostgreSQL cannot be prepared")]
    Tls(#[source] tls::Problem),
    /// The library's.
    #[error("the connections to PostgreSQL cannot be prepared")]
    Pool(#[source] managed::BuildError),
}

/// A connection, a kept one where there is one.
///
/// # Cancel safety
/// A connection that is being made is given up.
pub(super) async fn connection(pool: &Pool) -> Result<Object<Way>, Failure> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(failure) => failure,
        other => Failure::transient(format!("no connection to PostgreSQL: {other}")),
    })
}

impl Way {
    /// The configuration with every host replaced by its judged addresses. Certificates are still checked for the name.
    async fn resolved(&self) -> io::Result<Config> {
        let base = &self.base;
        let mut config = Config::new();
        if let Some(user) = base.get_user() {
            config.user(user);
        }
        if let Some(database) = base.get_dbname() {
            config.dbname(database);
        }
        if let Some(name) = base.get_application_name() {
            config.application_name(name);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        if let Some(timeout) = base.get_connect_timeout() {
            config.connect_timeout(*timeout);
        }
        config
            .ssl_mode(base.get_ssl_mode())
            .target_session_attrs(base.get_target_session_attrs())
            .tcp_user_timeout(UNCONFIRMED)
            .keepalives_idle(SILENCE);
        let ports = base.get_ports();
        for (index, host) in base.get_hosts().iter().enumerate() {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Unix(folder) => {
                    config.host_path(folder).port(port);
                }
                Host::Tcp(name) => {
                    for address in outbound::resolve(name, port).await? {
                        config.host(name).hostaddr(address.ip()).port(port);
                    }
                }
            }
        }
        Ok(config)
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let config = self.resolved().await.map_err(|error| {
            let told = words(&error).unwrap_or_else(|| "the host name could not be resolved".to_owned());
            Failure::transient(format!("could not connect: {told}"))
        })?;
        // The driver's own errors come out where its client is used.
        let (client, driver) = if let Some(tls) = &self.tls {
            let connect = config.connect(MakeRustlsConnect::new(tls.clone()));
            let (client, driver) = Box::pin(connect).await.map_err(|error| fault::unreachable(&error))?;
            (client, tokio::spawn(async move { drop(driver.await) }).abort_handle())
        } else {
            let connect = config.connect(NoTls);
            let (client, driver) = Box::pin(connect).await.map_err(|error| fault::unreachable(&error))?;
            (client, tokio::spawn(async move { drop(driver.await) }).abort_handle())
        };
        let mut session = Session { client, driver, forgets: false };
        let answer = session.client.simple_query(FACTS).await.map_err(|error| fault::explain(&error))?;
        let row =
            answer.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
        let fact = |index| row.and_then(|row| row.try_get(index).ok().flatten()).unwrap_or_default();
        if !matches!(fact(1), "UTF8" | "SQL_ASCII") {
            return Err(Failure::transient(
                "the database does not keep its texts in UTF-8, so it cannot hold every event: make one with ENCODING 'UTF8'",
            ));
        }
        session.forgets = fact(0) == "off";
        if session.forgets && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                code = "sink_not_durable",
                "the PostgreSQL of a sink has fsync off: what it acknowledged may be lost when its machine crashes"
            );
        }
        Ok(session)
    }
}

impl managed::Manager for Way {
    type Type = Session;
    type Error = Failure;

    async fn create(&self) -> Result<Session, Failure> {
        Box::pin(self.connect()).await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Failure> {
        if session.client.is_closed() { Err(RecycleError::message("the connection has ended")) } else { Ok(()) }
    }
}

/// Tells the server that nobody waits for the statement of a connection any more.
pub(super) fn cancel(pool: &Pool, session: &Session) {
    let (token, tls) = (session.client.cancel_token(), pool.manager().tls.clone());
    tokio::spawn(async move {
        let asked = async {
            match tls {
                Some(tls) => token.cancel_query(MakeRustlsConnect::new(tls)).await,
                None => token.cancel_query(NoTls).await,
            }
        };
        // Whatever comes of it: the statement ends with its connection, at the latest when it has an answer to send.
        if let Ok(Err(error)) = tokio::time::timeout(CONNECT, asked).await {
            tracing::debug!(
                code = "sink_statement_not_cancelled",
                error = chain(&error),
                "a statement that took too long goes on"
            );
        }
    });
}
