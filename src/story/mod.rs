//! What is told of entries: their stories, as sentences and as JSON, with bank data masked; and what is done to them by hand. For the
//! commands and for the page alike.
//!
//! ```text
//! words     times, reasons, counts of accounts
//! told      what happened to an entry, in order, and what comes next: pure
//! find      what a story is made of, from the inbox
//! json      lines and documents for programs
//! change    replays, parks and purges in batches
//! export    entries with their events, piece by piece
//! mask      bank data out of sight
//! ```

pub mod change;
pub mod export;
pub mod find;
pub mod json;
pub mod mask;
pub mod told;
pub mod words;
