//! What is wrong with a configuration, in words for the person who must put it right.
//!
//! A problem names its key, where the value came from, the value (never that of a secret), the reason and a hint.
//! Values are quoted with control characters escaped and cut, so that a report can be printed and logged as it is.

use std::fmt;

/// Every problem of a configuration, unknown keys first, then in the order of the documented file.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// The keys at fault; one may occur several times.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|problem| problem.key.as_str())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a problem")?,
            count => write!(f, "the configuration has {count} problems")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// `listener.max_body`, `sink.0.url`; empty for the file as a whole.
    pub(super) key: String,
    /// File or environment variable; `None` where nothing was given.
    pub(super) origin: Option<String>,
    /// What was given, as it would stand in the file; `None` if it may be secret.
    pub(super) value: Option<String>,
    /// Continues the key: "is required".
    pub(super) reason: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Problem {
    /// A problem of a key, without a value, an origin or a hint.
    pub(super) fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), origin: None, value: None, reason: reason.into(), hint: None }
    }

    /// Says where the value came from.
    #[must_use]
    pub(super) fn from(mut self, origin: Option<&str>) -> Self {
        self.origin = origin.map(str::to_owned);
        self
    }

    /// Says what to do.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("  ")?;
        if !self.key.is_empty() {
            f.write_str(&self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match (&self.origin, self.key.is_empty()) {
            (Some(origin), true) => f.write_str(origin)?,
            (Some(origin), false) => write!(f, " ({origin})")?,
            (None, _) => {}
        }
        write!(f, ": {}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// A value between quotation marks, escaped, cut at 80 characters.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(80).collect();
    if shown.len() < value.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_cuts_values() {
        assert_eq!(quoted("a\n\u{1b}[31m"), r#""a\n\u{1b}[31m""#);
        assert_eq!(quoted(&"x".repeat(200)).len(), 85);
    }

    #[test]
    fn reads_as_a_report() {
        let problems = Problems(vec![
            Problem {
                value: Some(quoted("x")),
                ..Problem::new("listener.path", "must begin with `/`").from(Some("a.toml")).hint("write \"/x\"")
            },
            Problem::new("", "cannot be read").from(Some("b.toml")),
        ]);
        assert_eq!(
            problems.to_string(),
            "the configuration has 2 problems\n  listener.path = \"x\" (a.toml): must begin with `/`\n    hint: write \"/x\"\n  b.toml: cannot be read"
        );
    }
}
