//! The inbox on one SQLite file: the default back end.
//!
//! ```text
//! open      the file: permissions, lock, settings of durability, damage, versions
//! schema    tables, and the way from one version to the next (migrate)
//! codes     what states, kinds and causes are called in the file
//! tx        an open transaction
//! writer    the one thread that writes, in batches that share a sync
//! shared    what callers know without asking the file
//! stages    loads a stage, applies a rule, stores it, and does what follows for its line and its entry
//! counts    how many stages there are
//! merging   which entries leave as one delivery, and what is done with all of them at once
//! entries, readings, attempts, refused, select, views    the other tables, and questions about them
//! attach    the store and its keys: whether they fit together, and what erased keys leave behind
//! store     the open file: readers, the writer, the room on the disk
//! gaps      what no row uses of a page
//! sweep     overwrites it
//! resealing rows from before the seal, sealed in the background, and back
//! intake, queue, shelf, sinks, desk, erase, audit, charts, watch, upkeep    the interfaces of the inbox
//! ```
//!
//! Bodies are written once and never touched again; the rows that change (`stage`) are small. SQLite through `rusqlite` was
//! chosen over faster bare logs because it brings recovery, indexes and queries that this inbox would otherwise have to
//! invent; see `docs/decisions/0001-sqlite-with-group-commit.md`.
//!
//! One process owns the file (a lock file says so); commands may read it and write short transactions beside it.

mod attach;
mod attempts;
mod audit;
mod charts;
mod codes;
mod copy;
mod counts;
mod desk;
mod entries;
mod erase;
mod gaps;
mod intake;
mod merging;
mod migrate;
mod open;
mod page;
mod queue;
mod readings;
mod receivers;
mod refused;
mod resealing;
mod reserve;
mod schema;
mod select;
mod shared;
mod shelf;
mod sinks;
mod stages;
mod store;
mod sweep;
mod tx;
mod upkeep;
mod views;
mod watch;
mod writer;

use crate::happenings;
pub(crate) use copy::{
    Contents, copy, forget, go_on_from, identity, make_empty, newest, number, put_in_place, read_all, set_number,
    standing,
};
pub(crate) use erase::log_left;
pub use open::Access;
pub(crate) use open::{is_damage, is_gone, is_locked, lock, look, refuse_lost, says_locked};
pub(crate) use schema::VERSION;
pub(crate) use store::{Sqlite, look_for_left_behind};
