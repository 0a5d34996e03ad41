//! What is asked of either side of a copy.

use super::{
    tables::{Row, Table},
    value::Value,
};
use crate::{Error, settings::Store};
use async_trait::async_trait;

/// The identity and the keys, by name.
pub(super) type Keys = Vec<(String, Vec<u8>)>;

/// What stays of a store when its rows are copied.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) keys: Keys,
    /// The last number that was given away in each table that hands out numbers.
    pub(super) numbers: Vec<(&'static str, i64)>,
    /// How many events were accepted.
    pub(super) position: i64,
}

/// One side of a copy.
#[async_trait]
pub(super) trait Side: Send {
    /// Up to so many rows behind a key.
    async fn rows(&mut self, table: &Table, after: Option<Vec<Value>>) -> Result<Vec<Row>, Error>;

    /// The key of the last row.
    async fn last(&mut self, table: &Table) -> Result<Option<Vec<Value>>, Error>;

    /// How many rows there are.
    async fn count(&mut self, table: &Table) -> Result<u64, Error>;

    /// Adds rows, durably; those that are there already stay.
    async fn add(&mut self, table: &Table, rows: Vec<Row>) -> Result<(), Error>;

    /// What is no row.
    async fn rest(&mut self) -> Result<Rest, Error>;

    /// The copy is whole: it becomes an inbox.
    async fn finish(&mut self, rest: Rest) -> Result<(), Error>;
}

/// Nothing was done.
pub(super) fn refused(store: &Store, problem: &str) -> Error {
    Error::Open { path: store.to_string(), problem: problem.to_owned(), source: None }
}
