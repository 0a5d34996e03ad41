//! Why a value is not what it should be, in words that continue the name of its key.

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Continues the key: "must begin with `/`".
    pub reason: String,
    /// What to do, where the kind of the key does not say it already.
    pub hint: Option<String>,
}

impl Flaw {
    /// A flaw with its remedy.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self { reason, hint: None }
    }
}

impl From<&str> for Flaw {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}
