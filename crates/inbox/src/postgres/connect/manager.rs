//! Makes connections, and tells those that are dead.
//!
//! A server that is away is tried by one caller at a time, and by none for half a second to a second after a failure. The others are
//! told at once what the last one was told. Example: PostgreSQL restarts, and 64 requests each want a connection. One tries
//! and is refused; the others get its answer; 700 ms later the next one tries.

use super::{fault::Fault, session, tls};
use crate::{Identity, Settings, settings::Server};
use base::{secret::Secret, sync::lock};
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use std::{
    future::poll_fn,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::UnboundedSender,
};
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// From the first packet to a connection that may be used.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// A connection that was used since then is taken to be well.
const FRESH: Duration = Duration::from_secs(1);
/// For a connection to show that it is.
const LIFE_SIGN: Duration = Duration::from_millis(400);
/// After a failure nobody tries for this long, and up to twice as long, in milliseconds.
const REST: u64 = 500;

/// How one server is reached.
pub(super) struct Way {
    server: Server,
    access: Mutex<Access>,
    failures: Failures,
    /// The inbox that is expected.
    identity: OnceLock<Identity>,
    /// The one that was there the last time.
    found: Mutex<Option<Identity>>,
}

/// What may be exchanged while the service runs.
#[derive(Clone)]
pub(super) struct Access {
    password: Option<Secret>,
    /// `None`: not encrypted.
    tls: Option<MakeRustlsConnect>,
}

impl Access {
    pub(super) fn new(server: &Server, settings: &Settings) -> Result<Self, Fault> {
        let tls = server.is_encrypted().then(|| tls::connector(settings)).transpose()?;
        Ok(Self { password: settings.password.clone(), tls })
    }
}

impl Way {
    pub(super) fn new(server: Server, settings: &Settings) -> Result<Self, Fault> {
        let access = Mutex::new(Access::new(&server, settings)?);
        Ok(Self { server, access, failures: Failures::default(), identity: OnceLock::new(), found: Mutex::default() })
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn renew(&self, access: Access) {
        *lock(&self.access) = access;
        // What was refused under the old password may work now.
        self.failures.clear();
    }

    pub(super) fn expect(&self, identity: Identity) {
        // The first one holds: that is what it is for.
        self.identity.set(identity).unwrap_or_default();
    }

    pub(super) fn found(&self) -> Option<Identity> {
        *lock(&self.found)
    }

    /// Why the last one who tried got no connection.
    pub(super) fn fault(&self) -> Option<Fault> {
        lock(&self.failures.0).as_ref().map(|failure| failure.fault.clone())
    }

    /// Makes a connection as everybody's: one at a time after a failure, and in time. What the server tells unasked goes to `told`.
    pub(super) async fn attempt(&self, told: Option<UnboundedSender<String>>) -> Result<ClientWrapper, Fault> {
        let attempt = self.failures.attempt()?;
        let made = tokio::time::timeout(CONNECT_TIME, Box::pin(self.connect(told))).await;
        let made = made.unwrap_or_else(|_elapsed| Err(Fault::Away("PostgreSQL does not answer".to_owned())));
        attempt.end(made.as_ref().err());
        made
    }

    async fn connect(&self, told: Option<UnboundedSender<String>>) -> Result<ClientWrapper, Fault> {
        let access = lock(&self.access).clone();
        let mut config = session::config(&self.server);
        if let Some(password) = &access.password {
            config.password(password.expose());
        }
        // The task ends with the connection, or with the wrapper that it belongs to.
        let wrapper = if let Some(tls) = access.tls {
            let (client, connection) = config.connect(tls).await?;
            ClientWrapper::new(client, tokio::spawn(drive(connection, told)))
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            ClientWrapper::new(client, tokio::spawn(drive(connection, told)))
        };
        let found = session::begin(&wrapper).await?;
        *lock(&self.found) = found;
        match (self.identity.get().copied(), found) {
            (Some(expected), Some(found)) if found != expected => Err(Fault::Foreign { expected, found }),
            (Some(_), None) => Err(Fault::Empty { schema: self.server.schema().to_owned() }),
            _ => Ok(wrapper),
        }
    }
}

/// Does the work of a connection until it ends.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, told: Option<UnboundedSender<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(notification), Some(told)) = (message, &told)
            && told.send(notification.payload().to_owned()).is_err()
        {
            // Nobody listens any more.
            return;
        }
    }
}

/// See the head of this file.
pub(crate) struct Manager(Arc<Way>);

impl Manager {
    pub(super) const fn new(way: Arc<Way>) -> Self {
        Self(way)
    }
}

impl managed::Manager for Manager {
    type Type = ClientWrapper;
    type Error = Fault;

    async fn create(&self) -> Result<ClientWrapper, Fault> {
        self.0.attempt(None).await
    }

    async fn recycle(&self, client: &mut ClientWrapper, metrics: &Metrics) -> RecycleResult<Fault> {
        if client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if metrics.last_used() < FRESH {
            return Ok(());
        }
        match tokio::time::timeout(LIFE_SIGN, client.simple_query("")).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(RecycleError::Backend(error.into())),
            Err(_elapsed) => Err(RecycleError::message("the connection gives no sign of life")),
        }
    }
}

/// The last failure, and who tries again.
#[derive(Debug, Default)]
struct Failures(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    fault: Fault,
    rest_until: Instant,
    is_tried: bool,
}

impl Failures {
    fn clear(&self) {
        *lock(&self.0) = None;
    }

    /// Leave to try; without it, what the last one was told.
    fn attempt(&self) -> Result<Attempt<'_>, Fault> {
        match &mut *lock(&self.0) {
            None => Ok(Attempt::new(self, false)),
            Some(failure) if failure.is_tried || Instant::now() < failure.rest_until => Err(failure.fault.clone()),
            Some(failure) => {
                failure.is_tried = true;
                Ok(Attempt::new(self, true))
            }
        }
    }
}

/// One who tries to connect.
struct Attempt<'a> {
    failures: &'a Failures,
    /// The only one, after a failure.
    is_trial: bool,
    begun: Instant,
    is_over: bool,
}

impl<'a> Attempt<'a> {
    fn new(failures: &'a Failures, is_trial: bool) -> Self {
        Self { failures, is_trial, begun: Instant::now(), is_over: false }
    }

    /// It came to this; `None`: there is a connection.
    fn end(mut self, fault: Option<&Fault>) {
        self.is_over = true;
        *lock(&self.failures.0) = fault.map(|fault| Failure::new(fault.clone()));
    }
}

impl Failure {
    fn new(fault: Fault) -> Self {
        let rest = Duration::from_millis(fastrand::u64(REST..=2 * REST));
        Self { fault, rest_until: Instant::now() + rest, is_tried: false }
    }
}

impl Drop for Attempt<'_> {
    /// Given up half-way, because the server is slow or because nobody waits any more.
    fn drop(&mut self) {
        let is_late = self.begun.elapsed() >= LIFE_SIGN;
        if !self.is_over && (self.is_trial || is_late) {
            let fault = Fault::Away("PostgreSQL does not answer in time".to_owned());
            *lock(&self.failures.0) = Some(Failure::new(fault));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Fault {
        Fault::Away("gone".to_owned())
    }

    #[test]
    fn after_a_failure_one_alone_tries_and_not_at_once() {
        let failures = Failures::default();
        let (first, second) = (failures.attempt().unwrap(), failures.attempt().unwrap());
        first.end(Some(&away()));
        assert_eq!(failures.attempt().map(drop), Err(away()), "it rests");
        second.end(Some(&away()));
        let over = |failures: &Failures| lock(&failures.0).as_mut().unwrap().rest_until = Instant::now();
        over(&failures);
        let trial = failures.attempt().unwrap();
        assert_eq!(failures.attempt().map(drop), Err(away()), "one tries already");
        drop(trial);
        assert!(failures.attempt().is_err(), "who gave up has tried, too");
        over(&failures);
        failures.attempt().unwrap().end(None);
        assert!(failures.attempt().is_ok() && failures.attempt().is_ok(), "it is well again");
    }

    #[test]
    fn a_new_password_is_tried_at_once() {
        let failures = Failures::default();
        failures.attempt().unwrap().end(Some(&away()));
        failures.clear();
        assert!(failures.attempt().is_ok());
    }
}
