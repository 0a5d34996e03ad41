//! What the settings of every kind of sink have in common.

use crate::sink::Sink;
use std::{error::Error as StdError, path::PathBuf};

/// Why a sink cannot be opened, in the words of its kind.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// Settings of one kind, from which a sink can be opened.
pub(crate) trait Opens {
    /// Opens and mends files, builds clients; connects to nothing.
    fn open(&self) -> Result<Box<dyn Sink>, Cause>;

    /// The files that the sink is built from, secrets and what it writes apart: a sink is built anew when they change.
    fn files(&self) -> &[PathBuf] {
        &[]
    }

    /// Whether the destination can tell deliveries from forged ones.
    fn is_signed(&self) -> bool {
        false
    }

    /// Whether a sink with other settings of this kind may take over while the old one is still open.
    fn may_change(&self) -> bool {
        false
    }
}
