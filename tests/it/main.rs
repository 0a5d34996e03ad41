//! Everything that needs more than one module: one binary, by subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on must end with a message"
)]

mod answers;
mod completion;
mod inbox;
mod inbox_model;
mod laws;
mod reload;
mod structure;
mod support;
