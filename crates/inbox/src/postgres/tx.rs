//! A transaction on the server.
//!
//! Statements are sent one behind the other, and answers are waited for only where the next statement needs them. So a batch of any
//! size takes two round trips: one that begins, locks and looks, and one that writes and commits. Every transaction says first that
//! its commit is to be on disk before it is answered, whatever the server, the database or the user is set to.
//!
//! A transaction that is dropped is rolled back before its connection is used again.

use super::{
    clock::Clock,
    connect::{Connection, Pool},
};
use crate::Error;
use base::clock::Timestamp;
use futures_util::future::{join, join_all, join3};
use std::{borrow::Cow, future::Future, time::Duration};
use tokio_postgres::{Row, error::SqlState, types::ToSql};

/// A parameter of a statement.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// A statement and its parameters.
pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value>,
}

/// Makes a [`Statement`].
macro_rules! statement {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::postgres::tx::Statement { sql: $sql.into(), values: vec![$(Box::new($value) as $crate::postgres::tx::Value),*] }
    };
}
pub(super) use statement;

/// Says that a commit is durable when it is answered, and asks for the time, for the number of the transaction, and for that of the
/// connection. Every statement here finds its rows by an index; a planner that has seen the tables while they were small would read
/// them to their end when they are large. No statement is so long that compiling it pays.
const BEGIN: &str = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
                            set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true),
                            set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
                            (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now,
                            pg_current_xact_id()::text AS xid, pg_backend_pid()::bigint AS pid";

/// Connections write what many count in as many places as this, by their number.
const SLOTS: i64 = 64;
/// Tries of a transaction that others were in the way of.
const TRIES: u32 = 8;
/// For a connection: others may use all of them. Whether the server answers in time is for those to judge who can do without.
const WAIT: Duration = Duration::from_secs(10);
/// For a rollback to be answered.
const ROLLBACK_TIME: Duration = Duration::from_secs(5);

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server said so, or nothing at all.
    Server(tokio_postgres::Error),
    /// Others were in the way, and the same may work now.
    Again,
    /// Something else.
    Other(Error),
}

impl Trouble {
    fn is_passing(&self) -> bool {
        match self {
            Self::Again => true,
            Self::Other(_) => false,
            Self::Server(error) => error.code().is_some_and(|code| {
                [
                    &SqlState::T_R_SERIALIZATION_FAILURE,
                    &SqlState::T_R_DEADLOCK_DETECTED,
                    // Another one accepted an event of the same id meanwhile.
                    &SqlState::UNIQUE_VIOLATION,
                ]
                .contains(&code)
            }),
        }
    }

    /// Whether the server found fault with what it was sent, and with nothing else.
    pub(super) fn is_of_the_data(&self) -> bool {
        let Self::Server(error) = self else { return false };
        // Class 22: data exceptions. Class 54: limits of the server.
        error.code().is_some_and(|code| ["22", "54"].iter().any(|class| code.code().starts_with(class)))
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<super::codes::Unknown> for Trouble {
    fn from(unknown: super::codes::Unknown) -> Self {
        Self::Other(Error::Store(Box::new(unknown)))
    }
}

impl From<crate::seal::Flaw> for Trouble {
    fn from(flaw: crate::seal::Flaw) -> Self {
        Self::Other(flaw.into())
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Server(error) => error.into(),
            Trouble::Again => Self::Store("other receivers were in the way again and again".into()),
            Trouble::Other(error) => error,
        }
    }
}

/// Runs a transaction until nobody is in its way.
pub(super) async fn until_done<T, F>(mut transaction: impl FnMut() -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let mut tries = 1;
    loop {
        match transaction().await {
            Err(trouble) if trouble.is_passing() && tries < TRIES => {
                tries += 1;
                // Those that met do not meet again at once.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..10 * u64::from(tries)))).await;
            }
            ended => return ended,
        }
    }
}

/// An open transaction.
pub(super) struct Tx {
    /// `None` once it has ended.
    connection: Option<Connection>,
    /// When it began, by the server's clock.
    pub(super) now: Timestamp,
    /// Its number.
    pub(super) xid: u64,
    /// Where its connection writes what many count.
    pub(super) slot: i64,
}

impl Tx {
    /// Begins a transaction, and runs the first statements of it in the same round trip.
    pub(super) async fn begin(
        pool: &Pool,
        clock: &Clock,
        first: &[Statement],
    ) -> Result<(Self, Vec<Vec<Row>>), Trouble> {
        let connection = pool.get(WAIT).await.map_err(Error::from)?;
        let asks = connection.prepare_cached(BEGIN).await?;
        let mut prepared = Vec::with_capacity(first.len());
        for statement in first {
            prepared.push(connection.prepare_cached(&statement.sql).await?);
        }
        let mut tx = Self { connection: Some(connection), now: Timestamp::default(), xid: 0, slot: 0 };
        let asked = Clock::ask();
        let (row, found) = {
            let client = tx.client()?;
            // In this order they are sent, because each is polled for the first time in this order.
            let (began, row, found) = join3(
                client.batch_execute("BEGIN"),
                client.query_one(&asks, &[]),
                join_all(prepared.iter().zip(first).map(|(prepared, statement)| {
                    let values = values(&statement.values);
                    async move { client.query(prepared, &values).await }
                })),
            )
            .await;
            began?;
            (row?, found)
        };
        tx.now = Timestamp::from_millis(row.try_get("now")?);
        clock.note(&asked, tx.now);
        tx.xid = row.try_get::<_, &str>("xid")?.parse().unwrap_or(0);
        tx.slot = row.try_get::<_, i64>("pid")?.rem_euclid(SLOTS);
        let found: Result<Vec<_>, _> = found.into_iter().collect();
        Ok((tx, found?))
    }

    /// As [`begin`](Self::begin), with one statement.
    pub(super) async fn begin_with(pool: &Pool, clock: &Clock, first: Statement) -> Result<(Self, Vec<Row>), Trouble> {
        let (tx, mut found) = Self::begin(pool, clock, &[first]).await?;
        Ok((tx, found.pop().unwrap_or_default()))
    }

    fn client(&self) -> Result<&Connection, Trouble> {
        self.connection.as_ref().ok_or(Trouble::Other(Error::Closed))
    }

    /// Runs one statement.
    pub(super) async fn query(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        let client = self.client()?;
        let prepared = client.prepare_cached(&statement.sql).await?;
        Ok(client.query(&prepared, &values(&statement.values)).await?)
    }

    /// Runs statements in one round trip; says of each how many rows it concerned.
    pub(super) async fn execute(&self, statements: &[Statement]) -> Result<Vec<u64>, Trouble> {
        let client = self.client()?;
        let mut prepared = Vec::with_capacity(statements.len());
        for statement in statements {
            prepared.push(client.prepare_cached(&statement.sql).await?);
        }
        let sent = prepared.iter().zip(statements).map(|(prepared, statement)| {
            let values = values(&statement.values);
            async move { client.execute(prepared, &values).await }
        });
        let ended: Result<Vec<u64>, _> = join_all(sent).await.into_iter().collect();
        Ok(ended?)
    }

    /// Runs statements that have no parameters.
    pub(super) async fn script(&self, sql: &str) -> Result<(), Trouble> {
        Ok(self.client()?.batch_execute(sql).await?)
    }

    /// Runs the last statements and commits, in one round trip.
    pub(super) async fn commit(mut self, last: &[Statement]) -> Result<Vec<Vec<Row>>, Trouble> {
        let ended = {
            let client = self.client()?;
            let mut prepared = Vec::with_capacity(last.len());
            for statement in last {
                prepared.push(client.prepare_cached(&statement.sql).await?);
            }
            let sent = prepared.iter().zip(last).map(|(prepared, statement)| {
                let values = values(&statement.values);
                async move { client.query(prepared, &values).await }
            });
            let (ended, committed) = join(join_all(sent), client.batch_execute("COMMIT")).await;
            // After a statement that failed, the server answers COMMIT with a rollback, and without an error.
            let ended: Result<Vec<Vec<Row>>, _> = ended.into_iter().collect();
            ended.and_then(|rows| committed.map(|()| rows))
        };
        if ended.is_ok() {
            drop(self.connection.take());
        }
        Ok(ended?)
    }

    /// Ends it without a change.
    pub(super) fn give_up(self) {
        drop(self);
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Connection::take(connection));
            return;
        };
        // In the background, because whoever drops a transaction has waited for enough. Where the rollback is not answered, the
        // connection is given up, and the server rolls back when it notices.
        drop(runtime.spawn(async move {
            let ended = tokio::time::timeout(ROLLBACK_TIME, connection.batch_execute("ROLLBACK")).await;
            if !matches!(ended, Ok(Ok(()))) {
                drop(Connection::take(connection));
            }
        }));
    }
}

/// Values as the library wants them.
pub(super) fn values(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
}

/// A query outside of a transaction.
pub(super) async fn query(pool: &Pool, statement: Statement) -> Result<Vec<Row>, Trouble> {
    let connection = pool.get(WAIT).await.map_err(Error::from)?;
    let prepared = connection.prepare_cached(&statement.sql).await?;
    Ok(connection.query(&prepared, &values(&statement.values)).await?)
}

/// Runs statements one after the other, none of them in a transaction, on a connection that is closed afterwards.
pub(super) async fn alone(pool: &Pool, statements: &[&str]) -> Result<(), Trouble> {
    let connection = Connection::take(pool.get(WAIT).await.map_err(Error::from)?);
    for statement in statements {
        connection.batch_execute(statement).await?;
    }
    Ok(())
}
