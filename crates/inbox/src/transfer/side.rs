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
    /// Of a sealed inbox without the key of hashes, which is among those of the keys store.
    pub(super) keys: Keys,
    /// `None`: it is not sealed.
    pub(super) seal: Option<Seal>,
    /// The last number that was given away in each table that hands out numbers.
    pub(super) numbers: Vec<(&'static str, i64)>,
    /// How many events were accepted.
    pub(super) position: i64,
}

/// What stays of a sealed store and of its keys store.
#[derive(Debug, Default)]
pub(super) struct Seal {
    /// There may be rows that are not sealed yet.
    pub(super) is_plain: bool,
    /// The newest data key that a row may need.
    pub(super) newest: i64,
    /// The newest erasure whose rows are removed.
    pub(super) erasures: i64,
    /// The last number that was given away in each table of the keys store.
    pub(super) numbers: Vec<(&'static str, i64)>,
    /// What else is in the keys store, by name.
    pub(super) keys: Keys,
}

/// One side of a copy.
#[async_trait]
pub(super) trait Side: Send {
    /// Which inbox it is.
    async fn identity(&mut self) -> Result<[u8; 16], Error>;

    /// Whether it is sealed.
    async fn is_sealed(&mut self) -> Result<bool, Error>;

    /// Opens the keys store of a sealed inbox; on the side of the copy makes it.
    async fn open_keys(&mut self, identity: [u8; 16]) -> Result<(), Error>;

    /// Where the keys store is.
    fn keys_place(&self) -> String;

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
