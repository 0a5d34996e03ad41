//! Whether a thread that writes gets its work done. Whoever waits for it would wait in vain, and should be told so at once.

use base::sync::lock;
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// A write and its sync that take this long hang. A caller is given up on after four seconds.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// What a thread is at.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    /// It has been at one piece of work since then.
    Since(Instant),
    /// Others keep it from working, as far as it last saw.
    KeptOut,
}

impl Busy {
    /// A piece of work begins.
    pub(crate) fn begins(&self) {
        *lock(&self.0) = State::Since(Instant::now());
    }

    /// The piece of work ended; others kept it from being done, where `kept_out`.
    pub(crate) fn ends(&self, kept_out: bool) {
        *lock(&self.0) = if kept_out { State::KeptOut } else { State::Idle };
    }

    /// Whether a piece of work that is asked for now would not be done in time.
    pub(crate) fn hangs(&self) -> bool {
        match *lock(&self.0) {
            State::Idle => false,
            State::Since(since) => since.elapsed() >= HANGS_AFTER,
            State::KeptOut => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_hangs_until_it_ends() {
        let busy = Busy::default();
        assert!(!busy.hangs());
        busy.begins();
        assert!(!busy.hangs());
        *lock(&busy.0) = State::Since(Instant::now().checked_sub(HANGS_AFTER).unwrap());
        assert!(busy.hangs());
        busy.ends(true);
        assert!(busy.hangs(), "it is tried again, and may be kept out again");
        busy.begins();
        busy.ends(false);
        assert!(!busy.hangs());
    }
}
