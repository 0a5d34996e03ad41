//! A SQLite file as a side of the copy. What is copied to stands beside its place under another name until it is whole.

use super::{
    side::{Rest, Side, refused},
    tables::{KEYS, NUMBERED, Row, Table},
    value::Value,
};
use crate::{
    Access, Error, Settings, Upkeep as _, journal,
    settings::{Journal, Store},
    sqlite::{self, Sqlite},
};
use async_trait::async_trait;
use base::folder::{beside, sync_name};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params_from_iter, types::ValueRef};
use std::{
    any::Any,
    fs, io,
    path::{Path, PathBuf},
};

/// Behind the name of a copy that is not whole.
const COPYING: &str = ".copying";

/// See the head of this file.
pub(super) struct File {
    /// Where the inbox is, or will be.
    path: PathBuf,
    connection: Connection,
    /// Nobody else may have it meanwhile.
    _lock: Box<dyn Any + Send>,
}

fn failed(error: rusqlite::Error) -> Error {
    Error::Store(Box::new(error))
}

fn lock(path: &Path) -> Result<Box<dyn Any + Send>, Error> {
    sqlite::lock(path).map(|lock| Box::new(lock) as _)
}

impl File {
    pub(super) fn source(path: &Path, settings: &Settings) -> Result<Self, Error> {
        let lock = lock(path)?;
        // Says so where there is none, or one of another version.
        let (identity, reached) = sqlite::look(path)?;
        let store = Store::Sqlite(path.to_owned());
        if settings.store == store || settings.journal.is_none() {
            let named = Settings { store: store.clone(), ..settings.clone() };
            if let Some(folder) = named.journal_folder().filter(|folder| folder.exists()) {
                let rest = journal::verify(&folder, identity.0, reached.0).map_or(1, |report| report.behind);
                if rest > 0 {
                    let problem = format!(
                        "its journal {} has {rest} events that are not in the file yet: start the service on it once, and stop it",
                        folder.display()
                    );
                    return Err(refused(&store, &problem));
                }
            }
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version != sqlite::VERSION {
            return Err(refused(
                &store,
                "it is of another version: start the service of this version on it once, and stop it",
            ));
        }
        let sealed = "SELECT 1 FROM meta WHERE name = 'sealed'";
        if connection.query_row(sealed, [], |_| Ok(())).optional().map_err(failed)?.is_some() {
            return Err(refused(&store, "it is sealed, and its keys are elsewhere: run `inbox unseal` first"));
        }
        Ok(Self { path: path.to_owned(), connection, _lock: lock })
    }

    pub(super) async fn target(path: &Path, settings: &Settings) -> Result<Self, Error> {
        let store = Store::Sqlite(path.to_owned());
        if !sqlite::is_gone(path) {
            return Err(refused(&store, "there is a file already: name one that is not there"));
        }
        // The lock is on an empty file, which the copy takes the place of.
        let lock = lock(path)?;
        let copying = beside(path, COPYING);
        let made = Settings {
            store: Store::Sqlite(copying.clone()),
            journal: Some(Journal::Off),
            key: Vec::new(),
            ..settings.clone()
        };
        // Makes the tables.
        Sqlite::open(&copying, &made, &[], Access::Owner)?.close().await;
        let connection = Connection::open(&copying).map_err(failed)?;
        connection.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection, _lock: lock })
    }

    fn query(&self, sql: &str, key: &[Value], columns: usize) -> Result<Vec<Row>, Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params_from_iter(key.iter().map(written)), |row| {
            (0..columns).map(|index| Ok(read(row.get_ref(index)?))).collect::<rusqlite::Result<Row>>()
        });
        rows.map_err(failed)?.collect::<rusqlite::Result<_>>().map_err(failed)
    }
}

/// A value as SQLite takes it.
fn written(value: &Value) -> rusqlite::types::Value {
    use rusqlite::types::Value as Written;
    match value {
        Value::Null => Written::Null,
        Value::Number(number) => Written::Integer(*number),
        Value::Text(text) => Written::Text(text.clone()),
        Value::Bytes(bytes) => Written::Blob(bytes.clone()),
    }
}

fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Number(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        // No column has floats: the tables are strict.
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}

fn quoted(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

#[async_trait]
impl Side for File {
    async fn rows(&mut self, table: &Table, after: Option<Vec<Value>>) -> Result<Vec<Row>, Error> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match (table.name, *column) {
                ("page", "size") => "coalesce(size, length(accounts))".to_owned(),
                (_, column) => format!("\"{column}\""),
            })
            .collect();
        let (columns, key, name, limit) = (columns.join(", "), quoted(table.key()), table.name, table.batch);
        let condition =
            after.as_ref().map_or(String::new(), |after| format!("WHERE ({key}) > ({})", places(after.len())));
        let sql = format!("SELECT {columns} FROM {name} {condition} ORDER BY {key} LIMIT {limit}");
        self.query(&sql, &after.unwrap_or_default(), table.columns.len())
    }

    async fn last(&mut self, table: &Table) -> Result<Option<Vec<Value>>, Error> {
        let order: Vec<String> = table.key().iter().map(|column| format!("\"{column}\" DESC")).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", quoted(table.key()), table.name, order.join(", "));
        Ok(self.query(&sql, &[], table.keys)?.pop())
    }

    async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        let rows = self.query(&format!("SELECT count(*) FROM {}", table.name), &[], 1)?;
        let count = rows.first().and_then(|row| row.first()).and_then(Value::number).unwrap_or_default();
        Ok(count.unsigned_abs())
    }

    async fn add(&mut self, table: &Table, rows: Vec<Row>) -> Result<(), Error> {
        let sql = format!(
            "INSERT OR IGNORE INTO {} ({}) VALUES ({})",
            table.name,
            quoted(table.columns),
            places(table.columns.len())
        );
        let tx = self.connection.transaction().map_err(failed)?;
        {
            let mut statement = tx.prepare_cached(&sql).map_err(failed)?;
            for row in &rows {
                statement.execute(params_from_iter(row.iter().map(written))).map_err(failed)?;
            }
        }
        tx.commit().map_err(failed)
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        let mut rest = Rest::default();
        for name in KEYS {
            let sql = "SELECT value FROM meta WHERE name = ?1";
            let bytes: Vec<u8> = self.connection.query_row(sql, [name], |row| row.get(0)).map_err(failed)?;
            rest.keys.push((name.to_owned(), bytes));
        }
        let number = |sql: &str, name: &str| -> Result<i64, Error> {
            let found = self.connection.query_row(sql, [name], |row| row.get(0)).optional();
            Ok(found.map_err(failed)?.unwrap_or_default())
        };
        for (table, _) in NUMBERED {
            rest.numbers.push((table, number("SELECT seq FROM sqlite_sequence WHERE name = ?1", table)?));
        }
        rest.position = number("SELECT value FROM meta WHERE name = ?1", "position")?;
        Ok(rest)
    }

    async fn finish(&mut self, rest: Rest) -> Result<(), Error> {
        let tx = self.connection.transaction().map_err(failed)?;
        for (name, bytes) in &rest.keys {
            tx.execute("UPDATE meta SET value = ?2 WHERE name = ?1", (name, bytes)).map_err(failed)?;
        }
        tx.execute("UPDATE meta SET value = ?1 WHERE name = 'position'", [rest.position]).map_err(failed)?;
        for (table, number) in &rest.numbers {
            // A table that never had a row has no number yet.
            let count = tx
                .execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", (table, number))
                .map_err(failed)?;
            if count == 0 {
                tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, number))
                    .map_err(failed)?;
            }
        }
        tx.commit().map_err(failed)?;
        // Everything into the file itself, which is then all there is.
        self.connection.execute_batch("PRAGMA journal_mode = DELETE").map_err(failed)?;
        let copying = beside(&self.path, COPYING);
        let io = |error: io::Error| Error::Store(Box::new(error));
        fs::File::open(&copying).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&copying, &self.path).map_err(io)?;
        sync_name(&self.path).map_err(io)
    }
}
