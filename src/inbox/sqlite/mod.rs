//! placeholder
/// placeholder
#[derive(Debug)]
pub struct Sqlite;
