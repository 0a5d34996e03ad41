//! The back end on PostgreSQL, which many receivers share.
//!
//! ```text
//! connect   the way to the server: encryption, password, a bounded pool, and when the server counts as away
//! ```

#[expect(dead_code, reason = "the back end follows")]
pub(crate) mod connect;
