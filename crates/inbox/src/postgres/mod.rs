//! The inbox on PostgreSQL, which many receivers share.
//!
//! ```text
//! codes     how values are written in the tables, and read
//! clock     the time of the server, by which all receivers agree
//! connect   the way to the server
//! tx        a transaction: many statements in one round trip
//! schema    tables, and the way from one version to the next
//! tally     how many stages there are of each kind
//! shared    what callers know without asking the server
//! keys      the keys store: data keys, and what is left of erased ones
//! vault     seals and opens what is kept
//! stages, attempts, entries, delete, erasures    what is written to the tables
//! board     stages in memory, while their lines are locked: lets the rules change them
//! merging   which entries leave as one delivery
//! lines     locks lines, and loads a board
//! store     the open inbox
//! readings, refused, stored, select, views    questions about the other tables
//! settle, claim    how leases end and begin
//! attach    the store and its keys: whether they fit together, and what erased keys leave behind
//! resealing rows from before the seal, sealed in the background, and back
//! intake, committer, queue, shelf, sinks, desk, erase, audit, watch, upkeep    the interfaces of the inbox
//! listen    receivers wake each other
//! open      opens it, and starts its tasks
//! ```
//!
//! What comes in: a pool of connections to a server whose tables `init` has made. Receivers meet in these tables and nowhere else.
//! Promises, beside those of the contract:
//! - A commit is on the server's disk before it is answered: every transaction says so itself.
//! - No statement is run for each row: a batch of any size takes two round trips; where it is sealed, one to three more for its keys.
//! - Times are those of the server, so receivers whose clocks differ agree.
//! - Nobody waits in a circle: lines are locked in the order of their numbers, then stages in theirs.

mod attach;
mod attempts;
mod audit;
mod board;
mod charts;
mod claim;
mod clock;
mod codes;
mod committer;
pub(crate) mod connect;
mod delete;
mod desk;
mod entries;
mod erase;
mod erasures;
mod intake;
mod keys;
mod lines;
mod listen;
mod merging;
mod open;
mod page;
mod queue;
mod readings;
mod receivers;
mod refused;
mod resealing;
mod schema;
mod select;
mod settle;
mod shared;
mod shelf;
mod sinks;
mod stages;
mod store;
mod stored;
mod tally;
mod tx;
mod upkeep;
mod vault;
mod views;
mod watch;

pub(crate) use codes::{plain, text};
pub(crate) use entries::rank;
pub(crate) use keys::init as make_keys;
pub(crate) use schema::init as make_tables;
pub(crate) use store::Postgres;

use crate::{Access, Error, Identity, SealStanding, Settings, SinkName};
use base::clock::Timestamp;
use connect::Pool;
use std::sync::Arc;

/// Makes the tables, the identity and the keys where they are missing, and brings older tables up to date; where `inbox.key` is set,
/// the keys store too. May be called again, and by several at once. Returns which inbox it is, and whether it is new.
///
/// # Errors
/// [`Error::Open`]: the tables are of a version that this build does not know; [`Error::Seal`]: what is in the place of the keys store
/// is another one, or something else; [`Error::Store`]: the server failed.
pub(crate) async fn init(pool: &Pool, settings: &Settings) -> Result<(Identity, bool), Error> {
    let made = schema::init(pool).await?;
    if !settings.key.is_empty() {
        keys::init(pool.keys(), made.0).await?;
    }
    Ok(made)
}

/// How the seal of the inbox stands with these settings. Writes nothing.
///
/// # Errors
/// [`Error::Seal`]: a receiver would not start; the text says what to do. Those of the way to the server.
pub(crate) async fn standing(pool: &Pool, settings: &Settings) -> Result<SealStanding, Error> {
    attach::rehearse(pool, settings).await
}

/// Opens an inbox that [`init`] made. `local` is the clock of this receiver.
///
/// # Errors
/// [`Error::Open`], with what to do; [`Error::Store`]: the server failed.
pub(crate) async fn open(
    pool: Pool,
    settings: &Settings,
    sinks: &[SinkName],
    access: Access,
    local: fn() -> Timestamp,
) -> Result<Arc<Postgres>, Error> {
    Postgres::open(pool, settings, sinks, access, local).await.map(Arc::new)
}
