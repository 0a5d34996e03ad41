//! A PostgreSQL server for the cases: `LINXO_WEBHOOK_TEST_POSTGRES`, a URL, or the one of this machine. Each store has a schema of its
//! own, which goes when the store is dropped.

use base::clock::Timestamp;
use inbox::{
    Access, Inbox, Settings, SinkName,
    postgres::{self, connect::Pool},
    settings::Store,
};
use std::env;
use tokio_postgres::{Client, Config, NoTls};

/// Where the server is told.
const VARIABLE: &str = "LINXO_WEBHOOK_TEST_POSTGRES";
/// Where it is looked for.
const HERE: &str = "postgres://postgres@127.0.0.1:5432/postgres";
/// Connections of one receiver: many cases run side by side.
const CONNECTIONS: usize = 4;

/// A schema of its own.
pub(crate) struct Schema {
    name: String,
}

impl Schema {
    /// A schema with the tables of a new inbox.
    pub(crate) async fn new() -> Self {
        let this = Self { name: format!("inbox_test_{:016x}", fastrand::u64(..)) };
        let pool = this.pool();
        postgres::init(&pool).await.unwrap_or_else(|error| {
            let error = base::error::chain(&error).to_string();
            panic!(
                "these cases need a PostgreSQL server: {error}. Start one on 127.0.0.1:5432 that lets the user postgres in without a \
                 password, or name another one in {VARIABLE}"
            )
        });
        this
    }

    fn config(&self) -> Config {
        let url = env::var(VARIABLE).unwrap_or_else(|_absent| HERE.to_owned());
        let mut config: Config =
            url.parse().unwrap_or_else(|error| panic!("{VARIABLE} is no URL of PostgreSQL: {error}"));
        config.options(format!("-c search_path={} -c jit=off -c statement_timeout=30s", self.name));
        config
    }

    fn pool(&self) -> Pool {
        let url = env::var(VARIABLE).unwrap_or_else(|_absent| HERE.to_owned());
        let joint = if url.contains('?') { '&' } else { '?' };
        let store = format!("{url}{joint}sslmode=disable&schema={}", self.name).parse();
        let Ok(Store::Postgres(server)) = store else { panic!("{VARIABLE} names no PostgreSQL: {store:?}") };
        let settings = Settings { connections: CONNECTIONS, ..::settings::defaults().unwrap() };
        Pool::new(&server, &settings).unwrap()
    }

    /// A receiver's handle.
    pub(crate) async fn open(&self, settings: &Settings, sinks: &[SinkName], clock: fn() -> Timestamp) -> Inbox {
        postgres::open(self.pool(), settings, sinks, Access::Owner, clock).await.unwrap()
    }

    /// Runs statements beside the receivers.
    pub(crate) async fn run(&self, sql: &str) {
        connect(&self.config()).await.batch_execute(sql).await.unwrap();
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (config, name) = (self.config(), self.name.clone());
        // A case ends inside of a runtime, which cannot be waited for.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                connect(&config).await.batch_execute(&format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await.unwrap();
            });
        });
        drop(dropped.join());
    }
}
