//! Everything that needs more than one module: one binary, by subject.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on must end with a message"
)]

mod alerts;
mod answers;
mod api;
mod backup;
mod browser;
mod checks;
mod collector;
mod commands;
mod completion;
mod confirm;
mod consumers;
mod crash;
mod disk;
mod doctor;
mod embed;
mod evidence;
mod export;
mod fanout;
mod full;
mod hostile;
mod json;
mod laws;
mod listen;
mod lists;
mod log;
mod logs;
mod many;
mod merging;
mod metrics;
mod mistakes;
mod names;
mod oncall;
mod operators;
mod postgres;
mod power;
mod privacy;
mod readme;
mod reload;
mod retries;
mod service;
mod sinks;
mod structure;
mod supervised;
mod support;
mod support_api;
mod tables;
mod tokens;
mod traces;
