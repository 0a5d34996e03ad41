//! Copies an inbox from one store to another, while nobody uses either: from a file to a server, or back.
//!
//! ```text
//! tables   which tables and columns there are, and in which order rows are taken
//! value    a value of a row, the same on both sides
//! side     what is asked of either side
//! file     a SQLite file as a side of the copy
//! server   PostgreSQL as a side of the copy
//! ```
//!
//! In: two stores. Out: every row, with its number, and the identity and keys, so that the copy is the same inbox: what it knew it
//! still recognises, and no number is given away twice. Rows go in the order of their keys, in batches of one transaction. A copy that
//! is cut short goes on where it stopped. Until it is whole the copy has no identity, so nothing can serve it. At the end both
//! sides are read again, and the counts and digests of each table are compared.
//!
//! Of a sealed inbox the keys store is copied too, before the rows that need it. Nothing is opened, so no key is needed for that.

mod file;
mod server;
mod side;
mod tables;
mod value;

use crate::{Error, Settings, archive, journal, settings::Store};
use file::File;
use server::Server;
use sha2::{Digest as _, Sha256};
use side::{Side, refused};
use tables::{KEYS_TABLES, TABLES, Table};

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of which table.
    pub table: &'static str,
    /// Whether it is read again to be compared.
    pub is_verified: bool,
    /// Rows done.
    pub rows: u64,
    /// Rows in all.
    pub of: u64,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Rows of each table.
    pub tables: Vec<(&'static str, u64)>,
    /// Where the data keys of the copy are, in words; `None`: it is not sealed.
    pub keys: Option<String>,
}

/// Copies every table. `settings` say how a server is reached. `tell` is told how far it is, after each batch.
///
/// # Errors
/// [`Error::Open`], [`Error::Unusable`], [`Error::Store`], with what to do. Called again, it goes on.
pub async fn transfer(
    settings: &Settings,
    (from, to): (&Store, &Store),
    mut tell: impl FnMut(Progress) + Send,
) -> Result<Transferred, Error> {
    if from == to {
        return Err(refused(from, "it is copied to itself: name two stores"));
    }
    let mut source = open(settings, from, true).await?;
    let mut target = open(settings, to, false).await?;
    let is_sealed = source.is_sealed().await?;
    let mut all: Vec<&Table> = Vec::new();
    if is_sealed {
        let identity = source.identity().await?;
        source.open_keys(identity).await?;
        target.open_keys(identity).await?;
        all.extend(&KEYS_TABLES);
    }
    all.extend(&TABLES);
    let rest = source.rest().await?;
    let mut tables = Vec::new();
    for table in &all {
        let of = source.count(table).await?;
        let mut rows = target.count(table).await?;
        let mut after = target.last(table).await?;
        loop {
            let batch = source.rows(table, after).await?;
            let Some(last) = batch.last() else { break };
            after = Some(table.key_of(last));
            rows += batch.len() as u64;
            target.add(table, batch).await?;
            tell(Progress { table: table.name, is_verified: false, rows, of });
        }
        tables.push((table.name, of));
    }
    for (table, (_, of)) in all.iter().zip(&tables) {
        let one =
            digest(&mut *source, table, |rows| tell(Progress { table: table.name, is_verified: true, rows, of: *of }))
                .await?;
        let other = digest(&mut *target, table, |_| ()).await?;
        if one != other {
            return Err(refused(
                to,
                &format!(
                    "its table {} has {} rows and is not as it was in the source, which has {}: begin again with an empty store",
                    table.name, other.0, one.0
                ),
            ));
        }
    }
    target.finish(rest).await?;
    Ok(Transferred { tables, keys: is_sealed.then(|| target.keys_place()) })
}

async fn open(settings: &Settings, store: &Store, is_source: bool) -> Result<Box<dyn Side>, Error> {
    Ok(match store {
        Store::Sqlite(path) if is_source => Box::new(File::source(path, settings)?),
        Store::Sqlite(path) => Box::new(File::target(path, settings).await?),
        Store::Postgres(server) => {
            let mut side = Server::open(server, settings, is_source).await?;
            if is_source {
                must_be_folded(settings, store, side.identity().await?)?;
            }
            Box::new(side)
        }
    })
}

/// Refuses to copy from a server while the journal of a receiver here has events of it that may not be there.
fn must_be_folded(settings: &Settings, store: &Store, identity: [u8; 16]) -> Result<(), Error> {
    let Some((_, folder)) = archive::known_journal(settings).filter(|(of, _)| of.0 == identity) else { return Ok(()) };
    // How far it is folded stands beside it; what is folded is let go at a clean end.
    let rest = journal::verify(&folder, identity, 0).map_or(1, |report| report.behind);
    if rest == 0 {
        return Ok(());
    }
    let problem = format!(
        "the journal {} has {rest} events that may not be there yet: start the service on it once, and stop it",
        folder.display()
    );
    Err(refused(store, &problem))
}

/// How many rows, and a digest of all of them.
async fn digest(side: &mut dyn Side, table: &Table, mut tell: impl FnMut(u64)) -> Result<(u64, [u8; 32]), Error> {
    let (mut count, mut hasher, mut after) = (0, Sha256::new(), None);
    loop {
        let rows = side.rows(table, after).await?;
        let Some(last) = rows.last() else { break };
        after = Some(table.key_of(last));
        count += rows.len() as u64;
        for value in rows.iter().flatten() {
            value.add_to(&mut hasher);
        }
        tell(count);
    }
    Ok((count, hasher.finalize().into()))
}
