//! Durable receiver of Linxo Connect webhooks: the map of the code, in the order of the flow.
//!
//! ```text
//! Linxo --HTTPS--> receive --> inbox --2xx--> Linxo
//!                                |
//!                              work  -- linxo (token, GET /accounts)
//!                                |
//!                              sink  --> the integrator's systems
//! ```
//!
//! A module uses only what stands above it here, or beside it in its own folder; a test in `tests/` holds that.

pub mod pki;

pub mod config;
pub mod observe;

pub mod metrics;

pub mod inbox;
pub mod receive;

pub mod linxo;
pub mod sink;
pub mod work;

pub mod admin;
pub mod reload;

pub mod simulator;

pub mod app;
pub mod commands;

pub mod cli;
