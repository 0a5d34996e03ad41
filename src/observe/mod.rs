//! What the service lets others see of itself: its log, its figures, and how far it is in its life.

pub mod limiter;
pub mod log;
pub mod metrics;
mod process;
pub mod readiness;
pub mod traces;
