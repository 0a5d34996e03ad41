//! What can be said of a store and its seal from outside.

use std::fmt;

/// How a store is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not, and no key is set.
    Off,
    /// It will be, from the next start of the service on.
    Ahead,
    /// What is written is; what was written before is not yet all.
    Begun,
    /// All of it is.
    On,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "not sealed",
            Self::Ahead => "not sealed yet",
            Self::Begun => "sealed, but for rows from before that are being sealed",
            Self::On => "sealed",
        })
    }
}
