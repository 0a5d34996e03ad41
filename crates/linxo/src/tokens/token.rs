//! One access token.

use base::secret::Secret;
use reqwest::header::HeaderValue;
use std::time::Instant;

/// An access token, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token(Secret);

impl Token {
    /// `None` for what cannot stand in a header.
    pub(super) fn new(text: Secret) -> Option<Self> {
        let is_fit = !text.is_empty() && text.expose().bytes().all(|byte| byte.is_ascii_graphic());
        is_fit.then_some(Self(text))
    }

    /// `Authorization: Bearer ...`, marked so that nothing prints it.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose()))
            .unwrap_or_else(|_excluded_by_new| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// A token that was given to a caller.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: Token,
    /// `None`: for as long as the caller likes.
    pub(super) until: Option<Instant>,
}

impl Granted {
    /// Whether its time is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_stand_in_a_header_is_no_token() {
        for text in ["", "a b", "a\n", "\u{7f}", "tök"] {
            assert_eq!(Token::new(Secret::new(text.to_owned())), None, "{text:?}");
        }
        assert_eq!(Token::new(Secret::new("a.b-c~/+=".to_owned())).unwrap().header(), "Bearer a.b-c~/+=");
    }

    #[test]
    fn a_token_prints_nothing() {
        let token = Token(Secret::new("canary".to_owned()));
        assert!(!format!("{token:?} {:?}", token.header()).contains("canary"));
    }
}
