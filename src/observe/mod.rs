//! What the service lets others see of itself: its log, and how far it is in its life.

pub mod log;
pub mod readiness;
