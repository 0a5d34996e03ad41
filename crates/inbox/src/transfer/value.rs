//! A value of a row, the same on both sides: a flag is a number, and a text is as it came.

use sha2::{Digest as _, Sha256};

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// Adds it to a digest, so that no two rows look the same.
    pub(super) fn add_to(&self, hasher: &mut Sha256) {
        let (tag, bytes) = match self {
            Self::Null => (0, Vec::new()),
            Self::Number(number) => (1, number.to_le_bytes().to_vec()),
            Self::Text(text) => (2, text.as_bytes().to_vec()),
            Self::Bytes(bytes) => (3, bytes.clone()),
        };
        hasher.update([tag]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }

    pub(super) const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_have_different_digests() {
        let digest = |row: &[Value]| {
            let mut hasher = Sha256::new();
            for value in row {
                value.add_to(&mut hasher);
            }
            hasher.finalize()
        };
        let text = |text: &str| Value::Text(text.to_owned());
        assert_ne!(digest(&[text("ab"), text("c")]), digest(&[text("a"), text("bc")]));
        assert_ne!(digest(&[Value::Null, text("")]), digest(&[text(""), Value::Null]));
        assert_ne!(digest(&[Value::Bytes(b"a".to_vec())]), digest(&[text("a")]));
    }
}
