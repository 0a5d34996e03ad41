//! Hands batches over, and answers each delivery by itself.

use super::{
    batch::{Arrays, Batch, Budget},
    fault,
    link::{self, FORGETS, Pool, Session, Way},
    settings::Settings,
    sql::Tables,
};
use crate::{
    opens::{Cause, Init, Opens, Server},
    sink::{Delivery, Error, Failure, Sink},
};
use async_trait::async_trait;
use base::error::chain;
use deadpool::managed::Object;
use std::{mem, path::Path, time::Duration};
use tokio_postgres::config::Host;

/// Deliveries that a sink likes to get at once.
const BATCH: usize = 512;
/// For what an operator asks for by hand.
const BY_HAND: Duration = Duration::from_secs(30);

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Ok(Box::new(Postgres::new(self)?))
    }

    fn server(&self) -> Option<Server> {
        let settings = self.clone();
        let reach = Box::pin(async move {
            let sink = Postgres::new(&settings).map_err(|problem| chain(&problem))?;
            sink.look().await.map_err(|failure| failure.reason)
        });
        Some(Server { host: host(self), reach })
    }

    fn init(&self) -> Option<Init> {
        let settings = self.clone();
        let statements = tables(self).create();
        let run = Box::pin(async move {
            let sink = Postgres::new(&settings).map_err(|problem| chain(&problem))?;
            sink.create().await.map_err(|failure| failure.reason)
        });
        Some(Init { statements, run })
    }

    fn files(&self) -> Vec<&Path> {
        self.tls.files().collect()
    }

    fn may_change(&self) -> bool {
        true
    }
}

fn tables(settings: &Settings) -> Tables {
    let accounts = settings.accounts.then_some(settings.accounts_table.as_str());
    Tables::new(settings.server.schema().unwrap_or("public"), &settings.table, accounts)
}

/// Hosts and ports, for people.
fn host(settings: &Settings) -> String {
    let config = settings.server.config();
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(folder) => folder.display().to_string(),
        }
    });
    hosts.collect::<Vec<_>>().join(", ")
}

/// The sink.
pub(super) struct Postgres {
    pool: Pool,
    tables: Tables,
    statement: String,
    budget: Budget,
    timeout: Duration,
}

impl Postgres {
    /// Reads files; connects to nothing.
    pub(super) fn new(settings: &Settings) -> Result<Self, link::Problem> {
        let tables = tables(settings);
        Ok(Self {
            pool: link::pool(settings)?,
            statement: tables.store(),
            tables,
            budget: Budget::new(settings.max_event),
            timeout: settings.timeout,
        })
    }

    /// Connects, and sees whether the tables are there and can be written. Returns what should be known of the server.
    async fn look(&self) -> Result<Vec<String>, Failure> {
        let looked = async {
            let session = Borrowed::new(&self.pool).await?;
            for name in self.tables.names() {
                let found = session.client().query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await;
                let is_there: bool = found.and_then(|row| row.try_get(0)).map_err(|error| fault::explain(&error))?;
                if !is_there {
                    let told = format!("the table {name} is missing: `linxo-webhook sink init` makes it");
                    return Err(Failure::transient(told));
                }
            }
            // With no rows it stores nothing, and the server judges columns, keys and rights.
            let nothing = Arrays::default();
            let tried = session.client().query_typed(&self.statement, &nothing.parameters()).await;
            tried.map_err(|error| fault::explain(&error))?;
            let notes = if session.forgets() { vec![FORGETS.to_owned()] } else { Vec::new() };
            session.give_back();
            Ok(notes)
        };
        within(self.timeout, looked).await
    }

    /// Makes the tables that are missing, all or none.
    async fn create(&self) -> Result<(), Failure> {
        let statements = format!("BEGIN;\n{}COMMIT;", self.tables.create());
        let created = async {
            let session = Borrowed::new(&self.pool).await?;
            // The session is not given back: after an error its transaction is still open.
            session.client().batch_execute(&statements).await.map_err(|error| fault::explain(&error))
        };
        within(BY_HAND, created).await
    }

    /// Stores a batch, and puts the results in their places.
    async fn store(&self, batch: &mut Batch<'_>, results: &mut [Result<(), Error>]) {
        let batch = mem::take(batch);
        if batch.is_empty() {
            return;
        }
        let mut put = |place: usize, failure: Failure| {
            if let Some(result) = results.get_mut(place) {
                *result = Err(failure.into());
            }
        };
        match self.execute(&batch, None).await {
            Ok(()) => {}
            Err(Refusal { is_of_a_row: true, .. }) if batch.len() > 1 => {
                // One of the rows keeps the others out: each by itself.
                for (index, place) in batch.places().enumerate() {
                    if let Err(refusal) = self.execute(&batch, Some(index)).await {
                        put(place, refusal.failure);
                    }
                }
            }
            Err(refusal) => batch.places().for_each(|place| put(place, refusal.failure.clone())),
        }
    }

    /// Runs the statement for all rows of a batch, or for one of them.
    async fn execute(&self, batch: &Batch<'_>, only: Option<usize>) -> Result<(), Refusal> {
        let executed = async {
            let session = Borrowed::new(&self.pool).await?;
            let arrays = batch.arrays(only);
            let executed = session.client().query_typed(&self.statement, &arrays.parameters()).await;
            session.give_back();
            executed
                .map(drop)
                .map_err(|error| Refusal { failure: fault::explain(&error), is_of_a_row: fault::is_of_a_row(&error) })
        };
        within(self.timeout, executed).await
    }
}

#[async_trait]
impl Sink for Postgres {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut results = self.deliver_many(std::slice::from_ref(delivery)).await;
        results.pop().unwrap_or(Ok(()))
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        // Each stays `Ok` unless it is refused here, or with the batch that it goes with.
        let mut results: Vec<_> = deliveries.iter().map(|_| Ok(())).collect();
        let mut batch = Batch::default();
        for (place, delivery) in deliveries.iter().enumerate() {
            let added = async {
                self.budget.check(delivery)?;
                let room = if let Some(room) = self.budget.try_room(delivery) {
                    room
                } else {
                    // Whoever waits for room holds none, so that two batches cannot wait for each other.
                    self.store(&mut batch, &mut results).await;
                    self.budget.room(delivery).await?
                };
                batch.add(place, delivery, room).await
            };
            let added = added.await;
            if let (Err(error), Some(result)) = (added, results.get_mut(place)) {
                *result = Err(error);
            }
            if batch.is_full() {
                self.store(&mut batch, &mut results).await;
            }
        }
        self.store(&mut batch, &mut results).await;
        results
    }

    fn batch(&self) -> usize {
        BATCH
    }
}

/// Why a statement was not carried out.
struct Refusal {
    failure: Failure,
    is_of_a_row: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, is_of_a_row: false }
    }
}

async fn within<T, E: From<Failure>>(time: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    // Boxed: it is large, and one small allocation beside a round trip is nothing.
    tokio::time::timeout(time, Box::pin(work))
        .await
        .unwrap_or_else(|_elapsed| Err(Failure::transient(format!("PostgreSQL did not answer within {time:?}")).into()))
}

/// A connection in use. Unless it is given back it is closed, and the server is told to give up what it does.
struct Borrowed<'p> {
    pool: &'p Pool,
    connection: Option<Object<Way>>,
}

impl<'p> Borrowed<'p> {
    async fn new(pool: &'p Pool) -> Result<Self, Failure> {
        Ok(Self { pool, connection: Some(link::connection(pool).await?) })
    }

    #[expect(
        clippy::expect_used,
        reason = "the connection is taken by `give_back` and `drop` alone, after which nobody has `self`"
    )]
    fn session(&self) -> &Session {
        self.connection.as_ref().expect("there until it is given back")
    }

    fn client(&self) -> &tokio_postgres::Client {
        &self.session().client
    }

    fn forgets(&self) -> bool {
        self.session().forgets
    }

    fn give_back(mut self) {
        self.connection = None;
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let session = Object::take(connection);
            link::cancel(self.pool, &session);
        }
    }
}
