//! The seal: bank data is encrypted before it goes to the disk, where `inbox.key` is set.
//!
//! ```text
//! flaw      why something cannot be sealed or opened
//! cipher    pure: one key, what it seals and opens
//! ring      the keys of the key file, which wrap all other keys
//! place     what a sealed value belongs to: a connection and a user, or a day; and where it stands
//! data_key  a data key that is ready for use, and what it makes of a value
//! wrapping  what the ring wraps for a keys store
//! known     data keys in use
//! keys      the keys store in a file: data keys, wrapped, and what is left of erased ones
//! vault     seals and opens with the data key of an owner, for a store in a file
//! round     how far the sealing of old rows is
//! standing  how a store is sealed, for who asks
//! ```
//!
//! An inbox on a server has its keys store on a server too (`crates/inbox/src/postgres/keys.rs`), and a vault there
//! (`crates/inbox/src/postgres/vault.rs`): what several receivers do with keys at the same time is ordered by locks of the server.
//! What is sealed, and how, is the same.
//!
//! Bodies of events, pages and fetched connections have one data key for each connection and user, so that to erase a user is
//! to erase keys. Kept starts of refused bodies have one for each day. Records of the journal have one for each segment,
//! wrapped in the segment's header (`journal`). Every sealed value is bound to its row and its owner: moved to another row, it
//! cannot be opened.
//!
//! A data key is on the disk before the commit of the first row that needs it. An erased key leaves its number behind, in this
//! file and in every later copy of it. Rows that such a number seals are removed when a store is opened, so that an old backup
//! brings nobody back. Held by `crates/inbox/tests/sqlite/seal.rs`, `crates/inbox/tests/sqlite/histories.rs` and
//! `crates/inbox/tests/postgres/seal.rs`.
//!
//! Not sealed: ids, counts, sizes, times and states. Lists and filters need no key.

mod cipher;
mod data_key;
mod flaw;
mod keys;
mod known;
mod place;
mod ring;
mod round;
mod standing;
mod vault;
mod wrapping;

pub(crate) use cipher::{Cipher, OVERHEAD, random};
pub(crate) use data_key::{DataKey, Sealed};
pub(crate) use flaw::{Flaw, NO_KEY};
pub(crate) use keys::{KeysFile, copy as copy_keys, merge as merge_keys};
pub(crate) use known::Known;
pub(crate) use place::{Owner, Place};
pub(crate) use ring::{Ring, WRAPPED, Wrapped, parse};
pub(crate) use round::{Round, Row, To};
pub use standing::Standing;
pub(crate) use vault::Seal;
pub(crate) use wrapping::Kept;
