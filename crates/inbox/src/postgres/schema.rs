//! Tables of the inbox, and the way from one version to the next.
//!
//! The tables stand in the first schema of the connection's `search_path`, which the configuration names. A migration is a numbered
//! step, and each step is one transaction under a lock that all receivers share, so several may start at once.
//!
//! Receivers of the version before go on while a new one migrates. So a step only adds: tables, columns with a default, indexes
//! (*expand*). What nobody reads any more is dropped by a step of a later version (*contract*). `readable_from` in `meta` is the
//! oldest version whose receivers can still use the tables; a contracting step raises it, and an older receiver refuses to work then.

use super::{
    connect::Pool,
    tx::{self, Trouble, Tx, statement},
};
use crate::{Error, Identity, Keys};
use aws_lc_rs::rand;
use base::clock;
use std::collections::BTreeMap;

/// A step: the version that it makes, the oldest version that can use the tables afterwards, and what it does.
struct Step {
    version: i64,
    readable_from: i64,
    sql: &'static str,
}

/// Every step, in order. No step is ever changed once it was released.
const STEPS: [Step; 5] = [
    Step { version: 1, readable_from: 1, sql: include_str!("tables.sql") },
    Step { version: 2, readable_from: 1, sql: include_str!("order.sql") },
    // receiver: who takes events into this inbox. obstacle: why it would take none; NULL: it is ready.
    Step {
        version: 3,
        readable_from: 1,
        sql: "CREATE TABLE receiver (
                  id       TEXT   PRIMARY KEY,
                  name     TEXT   NOT NULL,
                  version  TEXT   NOT NULL,
                  since    BIGINT NOT NULL,
                  seen     BIGINT NOT NULL,
                  obstacle TEXT
              ) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);",
    },
    // merged: with which others an entry leaves the line of a sink that merges events; those of one delivery have the same first,
    // which is the entry that was first of them. Older receivers deliver each entry by itself.
    Step {
        version: 4,
        readable_from: 1,
        sql: "CREATE TABLE merged (
                  seq   BIGINT NOT NULL,
                  kind  BIGINT NOT NULL,
                  first BIGINT NOT NULL,
                  PRIMARY KEY (seq, kind)
              );
              CREATE INDEX merged_first ON merged (kind, first);",
    },
    // delivered.seq: the entry whose event lists these accounts; 0: they were read, or it was not noted. Older receivers leave it as
    // it is, which matters where two events were accepted in one millisecond.
    Step { version: 5, readable_from: 1, sql: "ALTER TABLE delivered ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;" },
];

/// The version that this build writes: that of the last step.
pub(super) const VERSION: i64 = 5;
/// Whoever migrates holds this lock, in the number space of this program.
pub(super) const MIGRATING: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('linxo-webhook migration ' || current_schema(), 0))";

/// Makes the tables, the identity and the keys where they are missing, and brings older tables up to date. May be called again, and by
/// several at once. Returns which inbox it is, and whether it is new.
pub(crate) async fn init(pool: &Pool) -> Result<(Identity, bool), Error> {
    let made = tx::until_done(|| try_init(pool)).await?;
    Ok(made)
}

async fn try_init(pool: &Pool) -> Result<(Identity, bool), Trouble> {
    let clock = super::clock::Clock::new(clock::now);
    let (tx, _) = Tx::begin(pool, &clock, &[]).await?;
    make_schema(&tx).await?;
    tx.query(statement!(MIGRATING)).await?;
    let from = version(&tx).await?.map_or(0, |(version, _)| version);
    refuse(from, readable_from(&tx).await?)?;
    migrate(&tx, from).await?;
    let is_new = from == 0;
    if is_new {
        for (name, length) in [("identity", 16), ("dedup", 16), ("fingerprints", 32)] {
            let mut bytes = vec![0; length];
            rand::fill(&mut bytes).map_err(|_unspecified| Error::Store("the system has no random bytes".into()))?;
            tx.execute(&[statement!("INSERT INTO meta (name, bytes) VALUES ($1, $2)", name, bytes)]).await?;
        }
    }
    let identity = found(&tx.query(statement!(META)).await?)?.identity;
    tx.commit(&[]).await?;
    Ok((identity, is_new))
}

/// Makes the first schema of the search path, unless it is there.
pub(super) async fn make_schema(tx: &Tx) -> Result<(), Trouble> {
    let rows = tx.query(statement!("SELECT current_schema(), current_setting('search_path')")).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    if row.try_get::<_, Option<&str>>(0)?.is_some() {
        return Ok(());
    }
    let path: &str = row.try_get(1)?;
    let first = path.split(',').next().unwrap_or_default().trim();
    // As the setting has it, so it is quoted where it has to be.
    tx.script(&format!("CREATE SCHEMA IF NOT EXISTS {first}")).await
}

async fn migrate(tx: &Tx, from: i64) -> Result<(), Trouble> {
    for step in STEPS.iter().filter(|step| step.version > from) {
        tx.script(step.sql).await?;
        for (name, number) in [("version", step.version), ("readable_from", step.readable_from)] {
            tx.execute(&[set_number(name, number)]).await?;
        }
        tracing::info!(code = "migration_step", "the tables of the inbox were brought to a newer version");
    }
    Ok(())
}

/// Version and `readable_from` of the tables; `None`: there are none.
async fn version(tx: &Tx) -> Result<Option<(i64, i64)>, Trouble> {
    let found = tx.query(statement!("SELECT to_regclass('meta') IS NOT NULL")).await?;
    if !found.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(None);
    }
    let rows = tx.query(statement!("SELECT name, number FROM meta WHERE name IN ('version', 'readable_from')")).await?;
    let (mut version, mut readable_from) = (0, 0);
    for row in &rows {
        match row.try_get(0)? {
            "version" => version = row.try_get::<_, Option<i64>>(1)?.unwrap_or(0),
            _ => readable_from = row.try_get::<_, Option<i64>>(1)?.unwrap_or(0),
        }
    }
    Ok(Some((version, readable_from)))
}

async fn readable_from(tx: &Tx) -> Result<i64, Trouble> {
    Ok(version(tx).await?.map_or(0, |(_, readable_from)| readable_from))
}

/// Refuses tables that this build does not understand any more.
fn refuse(version: i64, readable_from: i64) -> Result<(), Error> {
    if readable_from <= VERSION {
        return Ok(());
    }
    Err(unusable(format!(
        "its tables are of version {version}, and this linxo-webhook knows {VERSION}; receivers from version {readable_from} on can use \
         them: run that one, or a newer one"
    )))
}

/// The inbox cannot be used; the text says what to do.
pub(super) fn unusable(problem: String) -> Error {
    Error::Open { path: "in PostgreSQL".to_owned(), problem, source: None }
}

/// What the tables say of the inbox.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) identity: Identity,
    /// The key of hashes; `None`: it is in the keys store, because the inbox is sealed.
    dedup: Option<[u8; 16]>,
    fingerprints: [u8; 32],
    /// What is written is sealed.
    pub(super) is_sealed: bool,
    /// There may be rows that are not.
    pub(super) is_plain: bool,
    /// The newest data key that a row may need.
    pub(super) keys: i64,
    /// The newest erasure whose rows are removed.
    pub(super) erasures: i64,
    version: i64,
    readable_from: i64,
}

impl Found {
    /// The identity and the keys. The key of hashes is elsewhere while the store is sealed, and is handed in then.
    pub(super) fn keys(&self, dedup: Option<[u8; 16]>) -> Result<Keys, Error> {
        let dedup = dedup.or(self.dedup).ok_or_else(|| lost("dedup"))?;
        Ok(Keys { identity: self.identity, dedup, fingerprints: self.fingerprints })
    }
}

/// Looks at the tables, and brings older ones up to date where they were made by `init`.
///
/// # Errors
/// [`Error::Open`]: there is no inbox, or one that this build cannot use.
pub(super) async fn attach(pool: &Pool) -> Result<Found, Error> {
    let attached = tx::until_done(|| async {
        let clock = super::clock::Clock::new(clock::now);
        let (tx, _) = Tx::begin(pool, &clock, &[]).await?;
        let Some((mut from, readable_from)) = version(&tx).await? else {
            return Err(unusable("there is no inbox yet: run `linxo-webhook inbox init` once".to_owned()).into());
        };
        refuse(from, readable_from)?;
        if from < VERSION {
            tx.query(statement!(MIGRATING)).await?;
            // Another receiver may have been first.
            from = version(&tx).await?.map_or(from, |(version, _)| version);
            migrate(&tx, from).await?;
        }
        let found = found(&tx.query(statement!(META)).await?)?;
        must_be_usable(&tx.query(statement!(RIGHTS)).await?)?;
        tx.commit(&[]).await?;
        Ok(found)
    })
    .await?;
    Ok(attached)
}

/// Looks at the tables, and changes nothing.
///
/// # Errors
/// [`Error::Open`], [`Error::Store`], [`Error::Away`].
pub(super) async fn look(pool: &Pool) -> Result<Found, Error> {
    let found = found(&tx::query(pool, statement!(META)).await?)?;
    refuse(found.version, found.readable_from)?;
    must_be_usable(&tx::query(pool, statement!(RIGHTS)).await?)?;
    Ok(found)
}

/// Tables that the user may not read and write.
const RIGHTS: &str = "SELECT relname::text FROM pg_class
     WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
           AND relname IN ('meta', 'entry', 'body', 'stage', 'attempt', 'known', 'fetched', 'reading', 'page', 'refused', 'shortfall',
                           'delivered', 'line', 'failure', 'merged', 'sink', 'act', 'minute', 'receiver', 'tally', 'erasure')
           AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                    AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE'))
     ORDER BY relname";

/// Refuses tables that the user may not use as a receiver does.
fn must_be_usable(closed: &[tokio_postgres::Row]) -> Result<(), Trouble> {
    if closed.is_empty() {
        return Ok(());
    }
    let names = closed.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&str>, _>>()?.join(", ");
    let problem = format!(
        "the user of inbox.url lacks a right: grant it SELECT, INSERT, UPDATE and DELETE on {names}, or have it own all tables of the schema"
    );
    Err(unusable(problem).into())
}

const META: &str = "SELECT name, bytes, number FROM meta";

fn found(rows: &[tokio_postgres::Row]) -> Result<Found, Trouble> {
    let (mut bytes, mut numbers, mut keys) = (BTreeMap::new(), BTreeMap::new(), 0);
    for row in rows {
        let name: &str = row.try_get("name")?;
        if let Some(value) = row.try_get::<_, Option<Vec<u8>>>("bytes")? {
            bytes.insert(name, value);
        }
        let number = row.try_get::<_, Option<i64>>("number")?.unwrap_or(0);
        numbers.insert(name, number);
        if name.starts_with("keys ") {
            keys = number.max(keys);
        }
    }
    let broken = |_| unusable("a key in its tables is broken: restore them from a backup".to_owned());
    Ok(Found {
        identity: Identity(bytes.remove("identity").ok_or_else(|| lost("identity"))?.try_into().map_err(broken)?),
        dedup: bytes.remove("dedup").map(TryInto::try_into).transpose().map_err(broken)?,
        fingerprints: bytes.remove("fingerprints").ok_or_else(|| lost("fingerprints"))?.try_into().map_err(broken)?,
        is_sealed: numbers.contains_key("sealed"),
        is_plain: numbers.contains_key("plain"),
        keys,
        erasures: numbers.get("erasures").copied().unwrap_or(0),
        version: numbers.get("version").copied().unwrap_or(0),
        readable_from: numbers.get("readable_from").copied().unwrap_or(0),
    })
}

fn lost(what: &str) -> Error {
    unusable(format!("its tables have no {what}: restore them from a backup"))
}

/// Remembers a number.
pub(super) fn set_number(name: &'static str, number: i64) -> tx::Statement {
    statement!(
        "INSERT INTO meta (name, number) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET number = excluded.number",
        name,
        number
    )
}
