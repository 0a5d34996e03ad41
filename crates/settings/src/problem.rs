//! What is wrong with a configuration, in words for the person who must put it right.
//!
//! A problem names its key, the value (never that of a secret), the place where the value was given, the reason and a
//! hint. Values are quoted with control characters escaped and cut, so that a report can be printed and logged as it
//! is.

use std::{fmt, sync::Arc};

/// Where something was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the default holds.
    #[default]
    Nowhere,
    /// In the file.
    File {
        /// As it was named.
        name: Arc<str>,
        /// From 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// In an environment variable.
    Variable(String),
    /// In the environment as a whole.
    Environment,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::Variable(name) => f.write_str(name),
            Self::Environment => f.write_str("the environment"),
        }
    }
}

/// Every problem of a configuration: unknown keys first, then in the order of the reference file, then files that have two
/// uses.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// The report of these; `None` where there is none.
    #[must_use]
    pub fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self(problems))
    }

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
pub struct Problem {
    /// `listener.max_body`, `sink "app".url`; empty for the file as a whole.
    pub key: String,
    /// Where the value was given, or else the section in which it is missing.
    pub place: Place,
    /// What was given, as it would stand in the file; `None` if it may be secret.
    pub value: Option<String>,
    /// Continues the key: "is required".
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a key at a place.
    pub(crate) fn new(key: impl Into<String>, place: &Place, reason: impl Into<String>) -> Self {
        Self { key: key.into(), place: place.clone(), value: None, reason: reason.into(), hint: None }
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match (&self.place, self.key.is_empty()) {
            (Place::Nowhere, _) => {}
            (place, true) => write!(f, "{place}")?,
            (place, false) => write!(f, " ({place})")?,
        }
        write!(f, ": {}", self.reason)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// What people call an entry of a list: `sink "app"`, or `sink.0` where it has no name.
pub(crate) fn entry_title(list: &str, name: Option<&str>, index: usize) -> String {
    name.map_or_else(|| format!("{list}.{index}"), |name| format!("{list} {}", quoted(name)))
}

/// A value between quotation marks, escaped, cut at 80 characters.
pub(crate) fn quoted(value: &str) -> String {
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
        let file = |name: &str, line| Place::File { name: name.into(), line };
        let problems = Problems(vec![
            Problem {
                value: Some(quoted("x")),
                ..Problem::new("listener.path", &file("a.toml", Some(7)), "must begin with `/`").hint("write \"/x\"")
            },
            Problem::new("", &file("b.toml", None), "cannot be read"),
            Problem::new("tls.key", &Place::Variable("A__TLS__KEY".to_owned()), "is empty"),
            Problem::new("tls.key", &Place::Nowhere, "is required"),
        ]);
        assert_eq!(
            problems.to_string(),
            "the configuration has 4 problems\n  listener.path = \"x\" (a.toml:7): must begin with `/`\n    hint: write \
             \"/x\"\n  b.toml: cannot be read\n  tls.key (A__TLS__KEY): is empty\n  tls.key: is required"
        );
    }
}
