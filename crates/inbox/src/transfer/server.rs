//! PostgreSQL as a side of the copy. What is copied to has tables, and no identity until it is whole.

use super::{
    side::{Rest, Seal, Side, refused},
    tables::{KEYS, KEYS_META, KEYS_TABLES, NUMBERED, Row, Table},
    value::Value,
};
use crate::{
    Error, Identity, Settings,
    postgres::{
        connect::{Connection, Pool},
        make_keys, make_tables, plain, rank, text as escaped,
    },
    settings::{Server as Address, Store},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio_postgres::types::ToSql;

/// For the server to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// For connections to go whose process has ended.
const LEAVING: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
/// Stands in `meta` while a copy is not whole.
const COPYING: &str = "copying";
const BEGUN: &str = "SELECT count(*) FROM meta WHERE name = 'copying'";

/// See the head of this file.
pub(super) struct Server {
    store: Store,
    connection: Connection,
    /// To the keys store. `None`: it is not sealed, or not known to be.
    keys: Option<Connection>,
    is_source: bool,
    /// Closed with this value.
    pool: Pool,
    /// Types of columns, by table.
    types: HashMap<(String, String), String>,
}

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

impl Server {
    pub(super) async fn open(address: &Address, settings: &Settings, is_source: bool) -> Result<Self, Error> {
        let store = Store::Postgres(Box::new(address.clone()));
        let pool = Pool::new(address, settings)?;
        let mut this = Self {
            store: store.clone(),
            connection: pool.get(PATIENCE).await?,
            keys: None,
            is_source,
            pool,
            types: HashMap::new(),
        };
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                      AND application_name = current_setting('application_name')";
        // Those of a receiver that ended just now go a moment after it.
        let until = Instant::now() + LEAVING;
        while number(&this.connection, others).await? > 0 {
            if Instant::now() >= until {
                return Err(refused(&store, "it is used: stop every receiver and every command on it first"));
            }
            tokio::time::sleep(LOOK).await;
        }
        if is_source {
            if this.pool.must_have_inbox(PATIENCE).await.is_err() {
                return Err(refused(&store, "there is no inbox, or a copy of one that is not whole"));
            }
        } else {
            this.prepare(&store).await?;
        }
        let types = set_up(&this.connection).await?;
        this.types.extend(types);
        Ok(this)
    }

    /// Makes the tables of a new copy, unless one was begun.
    async fn prepare(&mut self, store: &Store) -> Result<(), Error> {
        if number(&self.connection, "SELECT (to_regclass('meta') IS NOT NULL)::int::bigint").await? == 0 {
            make_tables(&self.pool).await?;
        }
        if number(&self.connection, BEGUN).await? > 0 {
            return Ok(());
        }
        if number(&self.connection, "SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 1) AS first").await? > 0 {
            return Err(refused(store, "it holds an inbox already: name another schema or database"));
        }
        let keys: Vec<String> = KEYS.iter().map(|name| format!("'{name}'")).collect();
        let start = format!(
            "BEGIN; DELETE FROM meta WHERE name IN ({}); DELETE FROM sink; INSERT INTO meta (name, number) VALUES ('{COPYING}', 1); COMMIT",
            keys.join(", ")
        );
        Ok(self.connection.batch_execute(&start).await?)
    }

    /// Where a table is.
    fn of(&self, table: &Table) -> Result<&Connection, Error> {
        if !table.is_of_keys {
            return Ok(&self.connection);
        }
        self.keys.as_ref().ok_or(Error::Closed)
    }

    /// Makes the keys store of a copy, unless that was begun.
    async fn prepare_keys(&self, identity: Identity) -> Result<(), Error> {
        make_keys(self.pool.keys(), identity).await?;
        let connection = self.pool.keys().get(PATIENCE).await?;
        if number(&connection, BEGUN).await? > 0 {
            return Ok(());
        }
        if number(&connection, "SELECT (SELECT count(*) FROM key) + (SELECT count(*) FROM erased)").await? > 0 {
            let place = self.keys_place();
            return Err(refused(
                &self.store,
                &format!("there are data keys in {place} already: name another one in inbox.keys"),
            ));
        }
        let begin = "DELETE FROM meta WHERE name NOT IN ('identity', 'version'); INSERT INTO meta (name, number) VALUES ('copying', 1)";
        Ok(connection.batch_execute(begin).await?)
    }

    fn kind(&self, table: &Table, column: &str) -> &str {
        let column = stored(table, column);
        self.types.get(&(table.name.to_owned(), column.to_owned())).map_or("bigint", String::as_str)
    }

    async fn query(&self, table: &Table, sql: &str, key: Vec<Value>, columns: &[&str]) -> Result<Vec<Row>, Error> {
        let parameters: Parameters = key.into_iter().map(parameter).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| &**value as _).collect();
        let mut rows = Vec::new();
        for row in self.of(table)?.query(sql, &parameters).await? {
            let mut values = Vec::with_capacity(columns.len());
            for (index, column) in columns.iter().enumerate() {
                values.push(match self.kind(table, column) {
                    "text" => row.try_get::<_, Option<String>>(index)?.map(|text| Value::Text(plain(text))),
                    "bytea" => row.try_get::<_, Option<Vec<u8>>>(index)?.map(Value::Bytes),
                    "boolean" => row.try_get::<_, Option<bool>>(index)?.map(|flag| Value::Number(flag.into())),
                    _ => row.try_get::<_, Option<i64>>(index)?.map(Value::Number),
                });
            }
            rows.push(values.into_iter().map(|value| value.unwrap_or(Value::Null)).collect());
        }
        Ok(rows)
    }
}

async fn number(connection: &Connection, sql: &str) -> Result<i64, Error> {
    Ok(connection.query_one(sql, &[]).await?.try_get(0)?)
}

/// Prepares a connection for a copy; returns the types of the columns in its schema.
async fn set_up(connection: &Connection) -> Result<Vec<((String, String), String)>, Error> {
    // Reading a table of millions may take longer than a statement of the service.
    connection.batch_execute("SET statement_timeout = 0; SET synchronous_commit = on").await?;
    let columns = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
                   WHERE table_schema = current_schema()";
    let mut types = Vec::new();
    for row in connection.query(columns, &[]).await? {
        types.push(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
    }
    Ok(types)
}

/// The last number that a sequence gave away.
async fn last_number(connection: &Connection, sequence: &str) -> Result<i64, Error> {
    number(connection, &format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")).await
}

/// A statement that has a sequence go on behind a number.
fn go_on(sequence: &str, number: i64) -> String {
    // A sequence has no 0.
    format!("SELECT setval('{sequence}', {}, {})", number.max(1), number > 0)
}

fn parameter(value: Value) -> Box<dyn ToSql + Sync + Send> {
    match value {
        Value::Null => Box::new(None::<i64>),
        Value::Number(number) => Box::new(number),
        Value::Text(text) => Box::new(escaped(&text)),
        Value::Bytes(bytes) => Box::new(bytes),
    }
}

/// The column that is stored for one of the copy.
fn stored<'a>(table: &Table, column: &'a str) -> &'a str {
    if table.name == "entry" && column == "body_key" { "rank" } else { column }
}

/// In the order of bytes, as the other side has it.
fn ordered(table: &Table, suffix: &str) -> String {
    let column = |name: &&str| {
        let collation = if *name == "channel" { " COLLATE \"C\"" } else { "" };
        format!("\"{name}\"{collation}{suffix}")
    };
    table.key().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// Where rows come from.
fn source(table: &Table) -> &'static str {
    match table.name {
        // As each slot saw it; the newest counts.
        "failure" => "(SELECT DISTINCT ON (kind) kind, at, seq, reason FROM failure ORDER BY kind, at DESC) AS newest",
        name => name,
    }
}

#[async_trait]
impl Side for Server {
    async fn identity(&mut self) -> Result<[u8; 16], Error> {
        let row = self.connection.query_one("SELECT bytes FROM meta WHERE name = 'identity'", &[]).await?;
        let identity: Vec<u8> = row.try_get(0)?;
        identity.try_into().map_err(|_other_length| refused(&self.store, "its identity is broken"))
    }

    async fn is_sealed(&mut self) -> Result<bool, Error> {
        Ok(number(&self.connection, "SELECT count(*) FROM meta WHERE name = 'sealed'").await? > 0)
    }

    async fn open_keys(&mut self, identity: [u8; 16]) -> Result<(), Error> {
        if self.is_source {
            if self.pool.keys().holds(PATIENCE).await? != Some(Identity(identity)) {
                let place = self.keys_place();
                return Err(refused(&self.store, &format!("it is sealed, and its keys store is not in {place}")));
            }
        } else {
            self.prepare_keys(Identity(identity)).await?;
        }
        let connection = self.pool.keys().get(PATIENCE).await?;
        self.types.extend(set_up(&connection).await?);
        self.keys = Some(connection);
        Ok(())
    }

    fn keys_place(&self) -> String {
        format!("the schema {} in PostgreSQL", self.pool.keys().server().schema())
    }

    async fn rows(&mut self, table: &Table, after: Option<Vec<Value>>) -> Result<Vec<Row>, Error> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match (table.name, *column) {
                ("entry", "body_key") => {
                    "coalesce((SELECT k.body_key FROM known AS k WHERE k.id_key = entry.id_key AND k.seq = entry.seq), rank)".to_owned()
                }
                (_, column) => format!("\"{column}\""),
            })
            .collect();
        let after = after.unwrap_or_default();
        let places: Vec<String> = (1..=after.len()).map(|number| format!("${number}")).collect();
        let condition = if after.is_empty() {
            String::new()
        } else {
            format!("WHERE ({}) > ({})", ordered(table, ""), places.join(", "))
        };
        let sql = format!(
            "SELECT {} FROM {} {condition} ORDER BY {} LIMIT {}",
            columns.join(", "),
            source(table),
            ordered(table, ""),
            table.batch
        );
        self.query(table, &sql, after, table.columns).await
    }

    async fn last(&mut self, table: &Table) -> Result<Option<Vec<Value>>, Error> {
        let key: Vec<String> = table.key().iter().map(|column| format!("\"{column}\"")).collect();
        let sql =
            format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", key.join(", "), source(table), ordered(table, " DESC"));
        Ok(self.query(table, &sql, Vec::new(), table.key()).await?.pop())
    }

    async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        let count = format!("SELECT count(*) FROM {}", source(table));
        Ok(number(self.of(table)?, &count).await?.unsigned_abs())
    }

    async fn add(&mut self, table: &Table, rows: Vec<Row>) -> Result<(), Error> {
        let mut columns: Vec<Vec<Value>> = table.columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
        for row in rows {
            let conflict = row.get(3).and_then(Value::number).unwrap_or_default() != 0;
            for ((column, value), name) in columns.iter_mut().zip(row).zip(table.columns) {
                let is_rank = table.name == "entry" && *name == "body_key";
                column.push(match value {
                    Value::Number(body) if is_rank => Value::Number(rank(conflict, body)),
                    value => value,
                });
            }
        }
        let (mut names, mut arrays, mut parameters) = (Vec::new(), Vec::new(), Parameters::new());
        for (name, column) in table.columns.iter().zip(columns) {
            let kind = self.kind(table, name);
            let numbers = column.len();
            names.push(format!("\"{}\"", stored(table, name)));
            arrays.push(format!("${}::{kind}[]", names.len()));
            parameters.push(match kind {
                "text" => Box::new(
                    column.into_iter().map(|value| value.text().map(|text| escaped(&text))).collect::<Vec<_>>(),
                ),
                "bytea" => Box::new(column.into_iter().map(Value::bytes).collect::<Vec<_>>()),
                "boolean" => {
                    Box::new(column.iter().map(|value| value.number().map(|flag| flag != 0)).collect::<Vec<_>>())
                }
                _ => Box::new(column.iter().map(Value::number).collect::<Vec<_>>()),
            });
            debug_assert!(numbers > 0);
        }
        let connection = self.of(table)?;
        let (names, arrays, table) = (names.join(", "), arrays.join(", "), table.name);
        let sql = match table {
            "known" => format!(
                "INSERT INTO known ({names}, rank) SELECT n.*, e.rank FROM unnest({arrays}) AS n ({names}) JOIN entry AS e ON e.seq = n.seq
                 ON CONFLICT DO NOTHING"
            ),
            "failure" => format!(
                "INSERT INTO failure (slot, {names}) SELECT 0, * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
            ),
            _ => format!(
                "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING"
            ),
        };
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| &**value as _).collect();
        connection.execute(&sql, &parameters).await?;
        Ok(())
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        let mut rest = Rest::default();
        if let Some(keys) = &self.keys {
            let marks = "SELECT (SELECT count(*) FROM meta WHERE name = 'plain'),
                                (SELECT coalesce(max(number), 0) FROM meta WHERE name LIKE 'keys %'),
                                (SELECT coalesce(max(number), 0) FROM meta WHERE name = 'erasures')";
            let row = self.connection.query_one(marks, &[]).await?;
            let is_plain = row.try_get::<_, i64>(0)? > 0;
            let mut seal = Seal { is_plain, newest: row.try_get(1)?, erasures: row.try_get(2)?, ..Seal::default() };
            for table in &KEYS_TABLES {
                seal.numbers.push((table.name, last_number(keys, &sequence(table.name, "number")).await?));
            }
            seal.keys = bytes(keys, &KEYS_META).await?;
            rest.seal = Some(seal);
        }
        rest.keys = bytes(&self.connection, &KEYS).await?;
        for (table, column) in NUMBERED {
            rest.numbers.push((table, last_number(&self.connection, &sequence(table, column)).await?));
        }
        rest.position = last_number(&self.connection, "position").await?;
        Ok(rest)
    }

    async fn finish(&mut self, rest: Rest) -> Result<(), Error> {
        if let (Some(keys), Some(seal)) = (&mut self.keys, &rest.seal) {
            let tx = keys.transaction().await?;
            for (table, number) in &seal.numbers {
                tx.batch_execute(&go_on(&sequence(table, "number"), *number)).await?;
            }
            for (name, bytes) in &seal.keys {
                tx.execute("INSERT INTO meta (name, bytes) VALUES ($1, $2)", &[name, bytes]).await?;
            }
            tx.execute("DELETE FROM meta WHERE name = $1", &[&COPYING]).await?;
            tx.commit().await?;
        }
        let tx = self.connection.transaction().await?;
        // The lines of connections that have work, and how much there is of it.
        tx.batch_execute(
            "INSERT INTO line (key) SELECT DISTINCT line FROM stage ON CONFLICT DO NOTHING;
             INSERT INTO tally (slot, kind, unfinished, leased, parked)
             SELECT 0, kind, count(*) FILTER (WHERE state IN ('queued', 'due', 'leased')), count(*) FILTER (WHERE state = 'leased'),
                    count(*) FILTER (WHERE state = 'parked') FROM stage GROUP BY kind",
        )
        .await?;
        for (table, number) in &rest.numbers {
            let column = NUMBERED.iter().find(|(name, _)| name == table).map_or("id", |(_, column)| column);
            tx.batch_execute(&go_on(&sequence(table, column), *number)).await?;
        }
        tx.batch_execute(&go_on("position", rest.position)).await?;
        for (name, bytes) in &rest.keys {
            tx.execute("INSERT INTO meta (name, bytes) VALUES ($1, $2)", &[name, bytes]).await?;
        }
        if let Some(seal) = &rest.seal {
            let plain = seal.is_plain.then_some(("plain", 1));
            for (name, number) in
                [("sealed", 1), ("keys 0", seal.newest), ("erasures", seal.erasures)].into_iter().chain(plain)
            {
                tx.execute("INSERT INTO meta (name, number) VALUES ($1, $2)", &[&name, &number]).await?;
            }
        }
        tx.execute("DELETE FROM meta WHERE name = $1", &[&COPYING]).await?;
        tx.commit().await?;
        self.connection.batch_execute("ANALYZE").await?;
        self.pool.close();
        Ok(())
    }
}

/// What `meta` has of these names.
async fn bytes(connection: &Connection, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut found = Vec::with_capacity(names.len());
    for row in connection.query("SELECT name, bytes FROM meta WHERE name = ANY($1) ORDER BY name", &[&names]).await? {
        found.push((row.try_get(0)?, row.try_get(1)?));
    }
    Ok(found)
}

/// The sequence that gives away the numbers of a table.
fn sequence(table: &str, column: &str) -> String {
    if table == "entry" { "entry_seq".to_owned() } else { format!("{table}_{column}_seq") }
}
