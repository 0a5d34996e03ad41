//! A bar on standard error that says how far a long command is. Where standard error is no terminal nothing is drawn.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar, gone when this value is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// An empty bar of a length that may be changed.
    pub(super) fn new(length: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:28} {wide_bar} {pos}/{len}");
        bar.set_style(style.unwrap_or_else(|_not_one| ProgressStyle::default_bar()));
        Self(bar)
    }

    /// How far it is, and what that means.
    pub(super) fn at(&self, position: u64, what: &str) {
        self.0.set_position(position);
        self.say(what);
    }

    /// What it does.
    pub(super) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Where it ends.
    pub(super) fn of(&self, length: u64) {
        self.0.set_length(length);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
