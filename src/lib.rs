//! Durable receiver of Linxo Connect webhooks: the map of the code, in the order of the flow.
//!
//! ```text
//! Linxo --HTTPS--> receive --> inbox --2xx--> Linxo
//!                                |
//!                              work  -- linxo (token, GET /accounts)
//!                                |
//!                           delivery --> the integrator's systems
//! ```
//!
//! The boxes in the middle are crates of their own, in `crates/`: they know nothing of this one, and of each other only what
//! stands before them in the flow. `docs/architecture.md` has the whole picture. A module uses only what stands above it
//! here, or beside it in its own folder; a test in `tests/` holds that.

pub mod observe;

pub mod receive;

pub mod work;

pub mod story;

pub mod control;

pub mod admin;

pub mod config;

pub mod localhost;
pub mod reload;

pub mod supervisor;

pub mod app;

pub mod commands;

pub mod cli;

pub mod embed;
