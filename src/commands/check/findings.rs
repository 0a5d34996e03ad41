//! What `check` found, to be told at once.

use crate::config::{Config, Place, Problem};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What keeps the service from starting, or will soon.
    pub(super) problems: Vec<Problem>,
    /// What is allowed, but should be known.
    pub(super) warnings: Vec<String>,
    /// What was not tried, and why.
    pub(super) notes: Vec<String>,
    /// Facts, one a line.
    pub(super) facts: Vec<String>,
    /// Servers that do not do as they should, and whether trying later may help.
    pub(super) servers: Vec<(String, bool)>,
}

impl Findings {
    /// Adds a problem of a key, at the place where the key was given.
    pub(super) fn problem(
        &mut self,
        config: &Config,
        key: &str,
        value: Option<String>,
        (reason, hint): (String, &str),
    ) {
        let place: Place = config.origin.place(key);
        let hint = Some(hint.to_owned());
        self.problems.push(Problem { key: key.to_owned(), place, value, reason, hint });
    }
}
