//! The contract of an inbox: what every back end must do, as one list of cases.
//!
//! A case asks the factory in [`stores`] for a store and uses nothing but the inbox's own interfaces. Each back end is one
//! value of [`stores::Backend`], and every case runs on each of them. What is special about one back end's files or tables
//! has tests of its own beside this folder.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must end with a message"
)]

mod events;
mod server;
mod stores;

mod accepting;
mod attempts;
mod audit;
mod charts;
mod desk;
mod filters;
mod handing;
mod leases;
mod limits;
mod lines;
mod looking;
mod merging;
mod model;
mod order;
mod pages;
mod parking;
mod readings;
mod receivers;
mod reports;
mod retries;
mod sinks;
mod upkeep;
mod world;
mod writers;
