//! Names with values, such as headers: each value is a text, or a secret from a file or a variable.
//!
//! They stand in the file alone. No variable can name a header, because variables have neither hyphens nor small letters;
//! a secret value can still come from a variable that the file names.

use crate::{
    at::{At, Read},
    flaw::Flaw,
    problem::Problem,
    tree::Content,
};
use base::secret::Secret;

/// A name and what stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// As it was written.
    pub name: String,
    /// The value.
    pub value: Given,
}

/// A value that may be shown, or one that may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Written into the configuration itself.
    Text(String),
    /// From a file or a variable.
    Secret(Secret),
}

impl Given {
    /// Gives the text to the one place that needs it. Never log or format what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }

    /// Whether it must not be shown.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

/// What is asked of a pair.
pub(crate) type PairCheck = fn(&Pair) -> Result<(), Flaw>;

impl At<'_, '_> {
    /// Pairs in the order of their names; none where nothing was given.
    pub(crate) fn pairs(&mut self, name: &str, check: PairCheck) -> Read<Vec<Pair>> {
        let Some(node) = self.node(name) else { return Ok(Vec::new()) };
        let Content::Table(table) = &node.content else {
            return Err(self.flawed(name, "must be a table of names and values".into()));
        };
        let mut pairs = Vec::with_capacity(table.len());
        for (member, node) in table {
            let key = format!("{}.{member}", self.title(name));
            let value = match &node.content {
                Content::Text(text) => Ok(Given::Text(text.clone())),
                Content::Table(_) => self.checked_secret(&key, node, |_| Ok(())).map(Given::Secret),
                _ => {
                    let problem = Problem::new(key.as_str(), &node.place, "is neither a text nor a secret");
                    Err(self.report(problem.hint("write \"a text\", { file = \"...\" } or { env = \"...\" }")))
                }
            };
            pairs.push(value.and_then(|value| {
                let pair = Pair { name: member.clone(), value };
                match check(&pair) {
                    Ok(()) => Ok(pair),
                    // The value is not shown: a secret may have been written there by mistake.
                    Err(flaw) => {
                        let problem = Problem { hint: flaw.hint, ..Problem::new(key, &node.place, flaw.reason) };
                        Err(self.report(problem))
                    }
                }
            }));
        }
        pairs.into_iter().collect()
    }
}
