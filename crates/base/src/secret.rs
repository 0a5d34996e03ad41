//! A value that must never be seen: printing it prints a placeholder, dropping it wipes it.

use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: a password, a token, a signing key, a path segment.
///
/// `Debug` and `Display` print `***`; there is no `Serialize`. Memory is wiped on drop.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of a secret text.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Gives the text to the one place that needs it. Never log or format what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends only on the lengths.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// Whether there is no text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_itself() {
        let secret = Secret::new("canary-token".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
    }

    #[test]
    fn compares_by_content() {
        let secret = Secret::new("abc".to_owned());
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"abd"));
        assert!(!secret.matches(b"ab"));
        assert_eq!((secret == secret.clone(), secret == Secret::default()), (true, false));
    }

    #[test]
    fn gives_out_what_it_was_given() {
        let secret = Secret::new("abc".to_owned());
        assert_eq!((secret.expose(), secret.is_empty()), ("abc", false));
        assert!(Secret::default().is_empty());
    }
}
