//! What `check` found, to be told at once.

use crate::config::{Config, Place, Problem};

/// What was found.
#[derive(Debug, Default)]
pub(in crate::commands) struct Findings {
    /// What keeps the service from starting, or will soon.
    pub(in crate::commands) problems: Vec<Problem>,
    /// What is allowed, but should be known.
    pub(in crate::commands) warnings: Vec<String>,
    /// What was not tried, and why.
    pub(in crate::commands) notes: Vec<String>,
    /// Facts, one a line.
    pub(in crate::commands) facts: Vec<String>,
    /// Servers and files that keep the service from its work, and whether trying later may help.
    pub(in crate::commands) troubles: Vec<(String, bool)>,
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
