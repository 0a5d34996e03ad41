//! The keys store of an inbox on a server: every data key, wrapped by the key file, and the ids of erased ones.
//!
//! It has connections of its own, whether it is a schema beside that of the inbox or a database elsewhere. Each statement is a
//! transaction of its own, on the disk when it returns. So a key is there before the row that needs it, and it is gone before the rows
//! that it sealed. What several receivers do at once is ordered by locks of the inbox: who may look for the key of an owner holds
//! them, and the head of [`vault`](super::vault) says which.

use super::{
    clock::Clock,
    codes,
    connect::Pool,
    schema,
    tx::{self, Statement, Trouble, Tx, statement},
};
use crate::{
    Error, Identity,
    seal::{Flaw, Kept, Owner, Ring},
};
use base::clock::{self, Timestamp};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Row;

/// The version of the tables.
const VERSION: i64 = 1;
const FIND: &str = "SELECT number, id, wrapped, owner FROM key WHERE owner = ANY($1::text[]) AND NOT replaced";
const MAKE: &str = "
    INSERT INTO key (id, connection, \"user\", day, wrapped)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
    ON CONFLICT (owner) WHERE NOT replaced DO NOTHING";
/// Deletes keys, and notes that they are no more; the condition is put in between.
const ERASE: [&str; 2] =
    ["WITH gone AS (DELETE FROM key WHERE ", " RETURNING id) INSERT INTO erased (id, at) SELECT id, $2 FROM gone"];

/// The open keys store.
#[derive(Debug)]
pub(super) struct Keys {
    pool: Pool,
    identity: [u8; 16],
}

/// A key, and its number in the store.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: i64,
    pub(super) kept: Kept,
}

impl Keys {
    /// That of an inbox, on the way that is given.
    pub(super) fn new(pool: Pool, identity: Identity) -> Self {
        // Of a server with another keys store nothing is read.
        pool.expect(identity);
        Self { pool, identity: identity.0 }
    }

    /// Of the inbox.
    pub(super) const fn identity(&self) -> &[u8; 16] {
        &self.identity
    }

    async fn ask(&self, statement: Statement) -> Result<Vec<Row>, Trouble> {
        tx::query(&self.pool, statement).await
    }

    /// The keys of owners. Those that have none get one where there is a ring; whichever receiver is first makes it.
    pub(super) async fn find_or_make(
        &self,
        owners: &[Owner],
        ring: &Ring,
    ) -> Result<HashMap<Owner, Numbered>, Trouble> {
        // In one order for all receivers, so that nobody waits in a circle.
        let mut missing: BTreeMap<String, &Owner> = owners.iter().map(|owner| (name(owner), owner)).collect();
        let mut found = self.find(&mut missing).await?;
        if missing.is_empty() {
            return Ok(found);
        }
        let (mut ids, mut wrapped) = (Vec::with_capacity(missing.len()), Vec::with_capacity(missing.len()));
        for _ in &missing {
            let kept = ring.make(&self.identity)?;
            ids.push(kept.0);
            wrapped.push(kept.1);
        }
        let columns: Vec<_> = missing.values().map(|owner| columns(owner)).collect();
        let make = statement!(
            MAKE,
            ids,
            columns.iter().map(|columns| columns.0.clone()).collect::<Vec<_>>(),
            columns.iter().map(|columns| columns.1.clone()).collect::<Vec<_>>(),
            columns.iter().map(|columns| columns.2).collect::<Vec<_>>(),
            wrapped
        );
        self.ask(make).await?;
        found.extend(self.find(&mut missing).await?);
        if missing.is_empty() { Ok(found) } else { Err(Trouble::Again) }
    }

    /// Finds keys, and takes from the list what was found.
    async fn find(&self, owners: &mut BTreeMap<String, &Owner>) -> Result<HashMap<Owner, Numbered>, Trouble> {
        let rows = self.ask(statement!(FIND, owners.keys().cloned().collect::<Vec<_>>())).await?;
        let mut found = HashMap::with_capacity(owners.len());
        for row in &rows {
            let kept = (row.try_get("id")?, row.try_get("wrapped")?);
            if let Some(owner) = owners.remove(row.try_get::<_, &str>("owner")?) {
                found.insert(owner.clone(), Numbered { number: row.try_get("number")?, kept });
            }
        }
        Ok(found)
    }

    /// Wrapped keys by their ids; `None`: it was erased.
    pub(super) async fn by_ids(&self, ids: &[i64]) -> Result<HashMap<i64, Option<Vec<u8>>>, Trouble> {
        let sql = "SELECT id, wrapped FROM key WHERE id = ANY($1::bigint[])
                   UNION ALL SELECT id, NULL FROM erased WHERE id = ANY($1::bigint[])";
        let rows = self.ask(statement!(sql, ids.to_vec())).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Every connection that a user has keys of.
    pub(super) async fn connections_of(&self, user: &str) -> Result<Vec<String>, Trouble> {
        let sql = "SELECT DISTINCT connection FROM key WHERE \"user\" = $1";
        let rows = self.ask(statement!(sql, codes::text(user))).await?;
        rows.iter().map(|row| Ok(codes::read(row, "connection")?)).collect()
    }

    /// The users of a connection that have keys; `None` stands for the key of what names no user.
    pub(super) async fn users_of(&self, connection: &str) -> Result<Vec<Option<String>>, Trouble> {
        let sql = "SELECT DISTINCT \"user\" FROM key WHERE connection = $1";
        let rows = self.ask(statement!(sql, codes::text(connection))).await?;
        rows.iter().map(|row| Ok(codes::read_maybe(row, "user")?)).collect()
    }

    /// Erases the keys of owners, and notes that they are no more. Returns how many keys that were.
    pub(super) async fn erase(&self, owners: &[Owner], at: Timestamp) -> Result<u64, Trouble> {
        let names: Vec<String> = owners.iter().map(name).collect();
        let sql = format!("{} RETURNING id", ERASE.join("owner = ANY($1::text[])"));
        Ok(self.ask(statement!(sql, names, at.as_millis())).await?.len() as u64)
    }

    /// Erases keys by their ids.
    pub(super) async fn erase_ids(&self, ids: &[i64], at: Timestamp) -> Result<(), Trouble> {
        self.ask(statement!(ERASE.join("id = ANY($1::bigint[])"), ids.to_vec(), at.as_millis())).await.map(drop)
    }

    /// Nothing is sealed with the keys of these days any more: whoever needs one makes a new one.
    pub(super) async fn replace(&self, days: &[Owner]) -> Result<(), Trouble> {
        let sql = "UPDATE key SET replaced = TRUE WHERE owner = ANY($1::text[]) AND NOT replaced";
        self.ask(statement!(sql, days.iter().map(name).collect::<Vec<_>>())).await.map(drop)
    }

    /// Keys of days that a newer one has replaced, or will.
    pub(super) async fn replaced_days(&self) -> Result<Vec<i64>, Trouble> {
        let rows = self.ask(statement!("SELECT id FROM key WHERE replaced AND day IS NOT NULL")).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The ids of keys that were erased after an erasure.
    pub(super) async fn erased_since(&self, erasure: i64) -> Result<Vec<i64>, Trouble> {
        let rows = self.ask(statement!("SELECT id FROM erased WHERE number > $1", erasure)).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Numbers of the newest key, and of the newest erasure. They only grow.
    pub(super) async fn newest(&self) -> Result<(i64, i64), Trouble> {
        let sql = "SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM key_number_seq),
                          (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM erased_number_seq)";
        let rows = self.ask(statement!(sql)).await?;
        let row = rows.first().ok_or(Trouble::Again)?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn meta(&self, name: &'static str) -> Result<Option<Vec<u8>>, Trouble> {
        let rows = self.ask(statement!("SELECT bytes FROM meta WHERE name = $1", name)).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// The key of the hashes by which the same content is recognised.
    pub(super) async fn dedup(&self) -> Result<Option<[u8; 16]>, Trouble> {
        Ok(self.meta("dedup").await?.and_then(|key| key.try_into().ok()))
    }

    /// Keeps the key of the hashes.
    pub(super) async fn set_dedup(&self, key: &[u8]) -> Result<(), Trouble> {
        let sql = "INSERT INTO meta (name, bytes) VALUES ('dedup', $1) ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes";
        self.ask(statement!(sql, key.to_vec())).await.map(drop)
    }

    /// Finds out whether the key file is the right one. Where there was none before, it is.
    pub(super) async fn set_ring(&self, ring: &Ring) -> Result<(), Trouble> {
        let sql = "INSERT INTO meta (name, bytes) VALUES ('canary', $1) ON CONFLICT (name) DO NOTHING";
        self.ask(statement!(sql, ring.canary(&self.identity)?.to_vec())).await?;
        self.try_ring(ring).await
    }

    /// Finds out whether the key file is the right one, and opens every key.
    pub(super) async fn try_ring(&self, ring: &Ring) -> Result<(), Trouble> {
        if let Some(canary) = self.meta("canary").await? {
            ring.try_canary(&self.identity, &canary)?;
        }
        let sql = "SELECT 1 FROM key WHERE substring(wrapped FROM 1 FOR 8) <> ALL($1::bytea[]) LIMIT 1";
        let strange = self.ask(statement!(sql, ring.names())).await?;
        if strange.is_empty() { Ok(()) } else { Err(Flaw::OtherKey.into()) }
    }

    /// Wraps with the newest key of the ring up to `limit` keys that another one wraps; returns how many keys that were. At the end
    /// the canary.
    pub(super) async fn rewrap(&self, ring: &Ring, limit: usize) -> Result<u64, Trouble> {
        let newest = ring.names().into_iter().next().unwrap_or_default();
        let sql = "SELECT id, wrapped FROM key WHERE substring(wrapped FROM 1 FOR 8) <> $1 LIMIT $2";
        let rows = self.ask(statement!(sql, newest, codes::signed(limit))).await?;
        let (mut ids, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let kept: Kept = (row.try_get(0)?, row.try_get(1)?);
            after.push(ring.rewrap(&self.identity, &kept)?.to_vec());
            ids.push(kept.0);
            before.push(kept.1);
        }
        if !ids.is_empty() {
            let sql = "UPDATE key SET wrapped = n.after FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
                       WHERE key.id = n.id AND key.wrapped = n.before";
            self.ask(statement!(sql, ids, before, after)).await?;
        } else if let Some(canary) = self.meta("canary").await?.filter(|canary| !ring.is_newest(canary)) {
            ring.try_canary(&self.identity, &canary)?;
            let sql = "UPDATE meta SET bytes = $1 WHERE name = 'canary'";
            self.ask(statement!(sql, ring.canary(&self.identity)?.to_vec())).await?;
        }
        Ok(rows.len() as u64)
    }
}

/// Makes the tables where they are missing. May be called again, and by several at once.
///
/// # Errors
/// [`Error::Seal`]: what is there is the keys store of another inbox, or no keys store.
pub(crate) async fn init(pool: &Pool, identity: Identity) -> Result<(), Error> {
    Ok(tx::until_done(|| try_init(pool, identity)).await?)
}

async fn try_init(pool: &Pool, identity: Identity) -> Result<(), Trouble> {
    let (tx, _) = Tx::begin(pool, &Clock::new(clock::now), &[]).await?;
    schema::make_schema(&tx).await?;
    tx.query(statement!(schema::MIGRATING)).await?;
    let facts = "SELECT to_regclass('meta') IS NOT NULL, to_regclass('key') IS NOT NULL";
    let rows = tx.query(statement!(facts)).await?;
    let row = rows.first().ok_or(Trouble::Again)?;
    let refused = |problem: &str| {
        let schema = pool.server().schema();
        Err(Error::Seal { problem: format!("the schema {schema} {problem}"), source: None }.into())
    };
    match (row.try_get(0)?, row.try_get(1)?) {
        (false, false) => {
            tx.script(include_str!("keys.sql")).await?;
            let add = "INSERT INTO meta (name, bytes, number) VALUES ('identity', $1::bytea, NULL), ('version', NULL, $2::bigint)";
            tx.commit(&[statement!(add, identity.0.to_vec(), VERSION)]).await.map(drop)
        }
        (true, true) => {
            let found =
                "SELECT bytes, (SELECT number FROM meta WHERE name = 'version') FROM meta WHERE name = 'identity'";
            let rows = tx.query(statement!(found)).await?;
            let row = rows.first().ok_or(Trouble::Again)?;
            if row.try_get::<_, Option<&[u8]>>(0)? != Some(identity.0.as_slice()) {
                return refused("has the data keys of another inbox: name another one in inbox.keys");
            }
            if row.try_get::<_, Option<i64>>(1)?.is_none_or(|version| version > VERSION) {
                return refused("has data keys of a newer linxo-webhook: run that one");
            }
            tx.commit(&[]).await.map(drop)
        }
        _ => refused("has tables that are no keys store: name another one in inbox.keys"),
    }
}

/// What the column `owner` says of an owner: the expression in keys.sql.
fn name(owner: &Owner) -> String {
    match columns(owner) {
        (Some(connection), Some(user), _) => format!("u{} {connection}{user}", connection.chars().count()),
        (Some(connection), None, _) => format!("c{connection}"),
        (None, _, day) => format!("d{}", day.unwrap_or_default()),
    }
}

fn columns(owner: &Owner) -> (Option<String>, Option<String>, Option<i64>) {
    match owner {
        Owner::Connection { connection, user } => (Some(codes::text(connection)), codes::maybe(user.as_deref()), None),
        Owner::Day(day) => (None, None, Some(*day)),
    }
}
