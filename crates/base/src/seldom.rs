//! Lets one log line a minute through.

use crate::sync::lock;
use std::{sync::Mutex, time::Duration};
use tokio::time::Instant;

/// When a line was last written.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    const EVERY: Duration = Duration::from_mins(1);

    /// Whether it is written now: a minute or more after the last time.
    pub fn is_due(&self) -> bool {
        let mut last = lock(&self.0);
        let is_due = last.is_none_or(|last| last.elapsed() >= Self::EVERY);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
