//! A SQLite file as a side of the copy. What is copied to stands beside its place under another name until it is whole.

use super::{
    side::{Rest, Seal, Side, refused},
    tables::{KEYS, KEYS_META, KEYS_TABLES, NUMBERED, Row, Table},
    value::Value,
};
use crate::{
    Access, Error, Settings, Upkeep as _, journal,
    seal::KeysFile,
    settings::{Journal, Store},
    sqlite::{self, Sqlite},
};
use async_trait::async_trait;
use base::folder::{beside, sync_name};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, ToSql, params_from_iter,
    types::{FromSql, ValueRef},
};
use std::{
    any::Any,
    fs, io,
    path::{Path, PathBuf},
};

/// Behind the name of a copy that is not whole.
const COPYING: &str = ".copying";
/// Whether a data key has a newer one beside it.
const REPLACED: &str =
    "EXISTS (SELECT 1 FROM key AS newer WHERE newer.connection IS key.connection AND newer.user IS key.user
                                AND newer.day IS key.day AND newer.number > key.number)";

/// See the head of this file.
pub(super) struct File {
    /// Where the inbox is, or will be.
    path: PathBuf,
    connection: Connection,
    /// Where its keys store is, or will be.
    keys_path: PathBuf,
    /// `None`: it is not sealed, or not known to be.
    keys: Option<Connection>,
    is_source: bool,
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
        let keys_path = Settings { store, ..settings.clone() }.keys_file();
        Ok(Self { path: path.to_owned(), connection, keys_path, keys: None, is_source: true, _lock: lock })
    }

    pub(super) async fn target(path: &Path, settings: &Settings) -> Result<Self, Error> {
        let store = Store::Sqlite(path.to_owned());
        if !sqlite::is_gone(path) {
            return Err(refused(&store, "there is a file already: name one that is not there"));
        }
        // The lock is on an empty file, which the copy takes the place of.
        let lock = lock(path)?;
        let copying = beside(path, COPYING);
        let keys_path = Settings { store, ..settings.clone() }.keys_file();
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
        Ok(Self { path: path.to_owned(), connection, keys_path, keys: None, is_source: false, _lock: lock })
    }

    fn store(&self) -> Store {
        Store::Sqlite(self.path.clone())
    }

    /// Where a table is.
    fn of(&self, table: &Table) -> Result<&Connection, Error> {
        if !table.is_of_keys {
            return Ok(&self.connection);
        }
        self.keys.as_ref().ok_or(Error::Closed)
    }

    fn query(&self, table: &Table, sql: &str, key: &[Value], columns: usize) -> Result<Vec<Row>, Error> {
        let mut statement = self.of(table)?.prepare_cached(sql).map_err(failed)?;
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

/// The columns of a table that this side stores.
fn stored(table: &Table) -> &[&'static str] {
    // Here the newest key of an owner is the one that is not replaced.
    let is_stored = |column: &&&str| (table.name, **column) != ("key", "replaced");
    table.columns.get(..table.columns.iter().filter(is_stored).count()).unwrap_or_default()
}

/// A value of the table `meta`; `None`: there is none.
fn meta<T: FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, Error> {
    let found = connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional();
    found.map_err(failed)
}

fn set_meta(connection: &Connection, name: &str, value: impl ToSql) -> Result<(), Error> {
    let set = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
    connection.execute(set, (name, value)).map(drop).map_err(failed)
}

/// The last number that a table gave away.
fn last_number(connection: &Connection, table: &str) -> Result<i64, Error> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
    Ok(connection.query_row(sql, [table], |row| row.get(0)).optional().map_err(failed)?.unwrap_or_default())
}

fn set_last_number(connection: &Connection, table: &str, number: i64) -> Result<(), Error> {
    let set = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
    // A table that never had a row has no number yet.
    if connection.execute(set, (table, number)).map_err(failed)? == 0 {
        let add = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
        connection.execute(add, (table, number)).map_err(failed)?;
    }
    Ok(())
}

/// Gives a file that is whole its name, on the disk.
fn put_in_place(copying: &Path, path: &Path) -> Result<(), Error> {
    let moved = fs::File::open(copying).and_then(|file| file.sync_all()).and_then(|()| {
        fs::rename(copying, path)?;
        sync_name(path)
    });
    moved.map_err(|error: io::Error| Error::Store(Box::new(error)))
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

#[async_trait]
impl Side for File {
    async fn identity(&mut self) -> Result<[u8; 16], Error> {
        meta(&self.connection, "identity")?.ok_or_else(|| refused(&self.store(), "it has no identity"))
    }

    async fn is_sealed(&mut self) -> Result<bool, Error> {
        Ok(meta::<i64>(&self.connection, "sealed")?.is_some())
    }

    async fn open_keys(&mut self, identity: [u8; 16]) -> Result<(), Error> {
        let place = self.keys_path.display();
        let path = match (self.is_source, self.keys_path.exists()) {
            (true, true) => self.keys_path.clone(),
            (true, false) => {
                return Err(refused(&self.store(), &format!("it is sealed, and its keys store {place} is not there")));
            }
            (false, true) => {
                return Err(refused(&self.store(), &format!("there is a keys store {place} already: move it away")));
            }
            (false, false) => beside(&self.keys_path, COPYING),
        };
        // Says whose keys these are; makes the tables of the copy.
        let opened = KeysFile::open(&path, identity, !self.is_source).map_err(|flaw| Error::Seal {
            problem: format!("the keys store {} cannot be used", path.display()),
            source: Some(Box::new(flaw)),
        })?;
        drop(opened);
        self.keys = Some(Connection::open(&path).map_err(failed)?);
        Ok(())
    }

    fn keys_place(&self) -> String {
        self.keys_path.display().to_string()
    }

    async fn rows(&mut self, table: &Table, after: Option<Vec<Value>>) -> Result<Vec<Row>, Error> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match (table.name, *column) {
                ("page", "size") => "coalesce(size, length(accounts))".to_owned(),
                ("key", "replaced") => REPLACED.to_owned(),
                (_, column) => format!("\"{column}\""),
            })
            .collect();
        let (columns, key, name, limit) = (columns.join(", "), quoted(table.key()), table.name, table.batch);
        let condition =
            after.as_ref().map_or(String::new(), |after| format!("WHERE ({key}) > ({})", places(after.len())));
        let sql = format!("SELECT {columns} FROM {name} {condition} ORDER BY {key} LIMIT {limit}");
        self.query(table, &sql, &after.unwrap_or_default(), table.columns.len())
    }

    async fn last(&mut self, table: &Table) -> Result<Option<Vec<Value>>, Error> {
        let order: Vec<String> = table.key().iter().map(|column| format!("\"{column}\" DESC")).collect();
        let sql = format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", quoted(table.key()), table.name, order.join(", "));
        Ok(self.query(table, &sql, &[], table.keys)?.pop())
    }

    async fn count(&mut self, table: &Table) -> Result<u64, Error> {
        let rows = self.query(table, &format!("SELECT count(*) FROM {}", table.name), &[], 1)?;
        let count = rows.first().and_then(|row| row.first()).and_then(Value::number).unwrap_or_default();
        Ok(count.unsigned_abs())
    }

    async fn add(&mut self, table: &Table, rows: Vec<Row>) -> Result<(), Error> {
        let columns = stored(table);
        let sql =
            format!("INSERT OR IGNORE INTO {} ({}) VALUES ({})", table.name, quoted(columns), places(columns.len()));
        let tx = self.of(table)?.unchecked_transaction().map_err(failed)?;
        {
            let mut statement = tx.prepare_cached(&sql).map_err(failed)?;
            for row in &rows {
                statement.execute(params_from_iter(row.iter().take(columns.len()).map(written))).map_err(failed)?;
            }
        }
        tx.commit().map_err(failed)
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        let mut rest = Rest::default();
        if let Some(keys) = &self.keys {
            let number = |name| meta(&self.connection, name).map(Option::unwrap_or_default);
            let mut seal = Seal {
                is_plain: meta::<i64>(&self.connection, "plain")?.is_some(),
                newest: number("keys")?,
                erasures: number("erasures")?,
                ..Seal::default()
            };
            for table in &KEYS_TABLES {
                seal.numbers.push((table.name, last_number(keys, table.name)?));
            }
            for name in KEYS_META {
                seal.keys.extend(meta(keys, name)?.map(|bytes| (name.to_owned(), bytes)));
            }
            rest.seal = Some(seal);
        }
        for name in KEYS {
            rest.keys.extend(meta(&self.connection, name)?.map(|bytes| (name.to_owned(), bytes)));
        }
        for (table, _) in NUMBERED {
            rest.numbers.push((table, last_number(&self.connection, table)?));
        }
        rest.position = meta(&self.connection, "position")?.unwrap_or_default();
        Ok(rest)
    }

    async fn finish(&mut self, rest: Rest) -> Result<(), Error> {
        if let (Some(keys), Some(seal)) = (self.keys.take(), &rest.seal) {
            let tx = keys.unchecked_transaction().map_err(failed)?;
            for (name, bytes) in &seal.keys {
                set_meta(&tx, name, bytes)?;
            }
            for (table, number) in &seal.numbers {
                set_last_number(&tx, table, *number)?;
            }
            tx.commit().map_err(failed)?;
            drop(keys);
            put_in_place(&beside(&self.keys_path, COPYING), &self.keys_path)?;
        }
        let tx = self.connection.transaction().map_err(failed)?;
        // What only a file says of stages.
        tx.execute("UPDATE stage SET ended = 1 WHERE state IN ('done', 'parked')", []).map_err(failed)?;
        // What a new file has of its own.
        tx.execute("DELETE FROM meta WHERE name = 'dedup'", []).map_err(failed)?;
        for (name, bytes) in &rest.keys {
            set_meta(&tx, name, bytes)?;
        }
        if let Some(seal) = &rest.seal {
            let plain = seal.is_plain.then_some(("plain", 1));
            for (name, number) in
                [("sealed", 1), ("keys", seal.newest), ("erasures", seal.erasures)].into_iter().chain(plain)
            {
                set_meta(&tx, name, number)?;
            }
        }
        set_meta(&tx, "position", rest.position)?;
        for (table, number) in &rest.numbers {
            set_last_number(&tx, table, *number)?;
        }
        tx.commit().map_err(failed)?;
        // Everything into the file itself, which is then all there is.
        self.connection.execute_batch("PRAGMA journal_mode = DELETE").map_err(failed)?;
        put_in_place(&beside(&self.path, COPYING), &self.path)
    }
}
