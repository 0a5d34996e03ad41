//! Why a body is refused.

/// Why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one JSON text (RFC 8259).
    #[error("the body is not JSON: {problem} at line {line} column {column}")]
    Syntax {
        /// What is wrong there; never quotes the body.
        problem: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("the body is not a JSON object but {found} at line 1 column 1")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// A member without which nothing can be addressed.
    #[error("{path} {problem}")]
    Field {
        /// JSON path (RFC 9535).
        path: &'static str,
        /// `is missing`, `is empty`, `is longer than 256 bytes`, `must be a string, not an array`, ...
        problem: String,
    },
}
