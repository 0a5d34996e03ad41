//! A PostgreSQL server for the cases: `LINXO_WEBHOOK_TEST_POSTGRES`, a URL, or the one of this machine. Each store has a schema of its
//! own, which goes when the store is dropped, and so does the one of its data keys.

use base::clock::{self, Timestamp};
use inbox::{Error, Identity, Inbox, Settings, SinkName};
use std::env;
use tokio_postgres::{Client, Config, NoTls};

/// Where the server is told.
const VARIABLE: &str = "LINXO_WEBHOOK_TEST_POSTGRES";
/// Where it is looked for.
const HERE: &str = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable";
/// Connections of one receiver: many cases run side by side.
const CONNECTIONS: usize = 4;

/// A schema of its own.
pub(crate) struct Schema {
    name: String,
}

impl Schema {
    /// A name for a schema, which is not there yet.
    pub(crate) fn absent() -> Self {
        Self { name: format!("inbox_test_{:016x}", fastrand::u64(..)) }
    }

    /// A schema with the tables of a new inbox; with one for its data keys where these settings have a key.
    pub(crate) async fn new(settings: &Settings) -> Self {
        let this = Self::absent();
        inbox::init(&this.at(settings)).await.unwrap_or_else(|error| {
            let error = base::error::chain(&error);
            panic!(
                "these cases need a PostgreSQL server: {error}. Start one on 127.0.0.1:5432 that lets the user postgres in without a \
                 password, or name another one in {VARIABLE}"
            )
        });
        this
    }

    /// A schema with an inbox as the first version made it.
    pub(crate) async fn of_version_1() -> Self {
        let this = Self::absent();
        let (name, tables) = (&this.name, include_str!("../../src/postgres/tables.sql"));
        let meta = "INSERT INTO meta (name, number) VALUES ('version', 1), ('readable_from', 1);
                    INSERT INTO meta (name, bytes) VALUES ('identity', decode(md5('identity'), 'hex')),
                        ('dedup', decode(md5('dedup'), 'hex')), ('fingerprints', sha256('fingerprints'))";
        let sql = format!("CREATE SCHEMA {name}; SET search_path = {name}; {tables}; {meta}");
        connect().await.batch_execute(&sql).await.unwrap();
        this
    }

    /// Makes the tables, as `inbox init` does; says which inbox it is, and whether it is new.
    pub(crate) async fn init(&self) -> Result<(Identity, bool), Error> {
        inbox::init(&self.at(&::settings::defaults().unwrap())).await.map(Option::unwrap)
    }

    /// Tries to open it with the defaults.
    pub(crate) async fn try_open(&self) -> Result<Inbox, Error> {
        inbox::connect_by(&self.at(&::settings::defaults().unwrap()), &[], clock::now).await
    }

    /// The settings for this schema.
    fn at(&self, settings: &Settings) -> Settings {
        let url = url();
        let url = format!("{url}{}schema={}", if url.contains('?') { '&' } else { '?' }, self.name);
        Settings { store: url.parse().unwrap(), connections: CONNECTIONS, ..settings.clone() }
    }

    /// A receiver's handle.
    pub(crate) async fn open(&self, settings: &Settings, sinks: &[SinkName], clock: fn() -> Timestamp) -> Inbox {
        inbox::connect_by(&self.at(settings), sinks, clock).await.unwrap()
    }

    /// Runs statements beside the receivers.
    pub(crate) async fn run(&self, sql: &str) {
        connect().await.batch_execute(&format!("SET search_path = {}; {sql}", self.name)).await.unwrap();
    }
}

fn url() -> String {
    env::var(VARIABLE).unwrap_or_else(|_absent| HERE.to_owned())
}

async fn connect() -> Client {
    let config: Config = url().parse().unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Drop for Schema {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A case ends inside of a runtime, which cannot be waited for.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                connect()
                    .await
                    .batch_execute(&format!("DROP SCHEMA IF EXISTS {name}, {name}_keys CASCADE"))
                    .await
                    .unwrap();
            });
        });
        drop(dropped.join());
    }
}
