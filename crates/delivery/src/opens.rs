//! What the settings of every kind of sink have in common.

use crate::sink::Sink;
use std::{error::Error as StdError, path::Path, pin::Pin};

/// Why a sink cannot be opened, in the words of its kind.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// A server that a sink calls, and the way to find out whether it can be reached.
#[expect(missing_debug_implementations, reason = "it holds what is going to be done")]
pub struct Server {
    /// Host and port.
    pub host: String,
    /// Connects, and delivers nothing; or says why there is no connection. Where there is one, what should be known of it.
    pub reach: Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>,
}

/// What a destination needs once, before the first delivery.
#[expect(missing_debug_implementations, reason = "it holds what is going to be done")]
pub struct Init {
    /// The statements, for whoever runs them by hand.
    pub statements: String,
    /// Runs them. What is there already stays as it is.
    pub run: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
}

/// Settings of one kind, from which a sink can be opened.
pub(crate) trait Opens {
    /// Opens and mends files, builds clients; connects to nothing.
    fn open(&self) -> Result<Box<dyn Sink>, Cause>;

    /// Finds out what [`open`](Self::open) would, and leaves everything as it is.
    fn rehearse(&self) -> Result<(), Cause> {
        self.open().map(drop)
    }

    /// The file that the sink writes.
    fn writes(&self) -> Option<&Path> {
        None
    }

    /// The server that the sink calls.
    fn server(&self) -> Option<Server> {
        None
    }

    /// What the destination needs once, before the first delivery.
    fn init(&self) -> Option<Init> {
        None
    }

    /// The files that the sink is built from, secrets and what it writes apart: a sink is built anew when they change.
    fn files(&self) -> Vec<&Path> {
        Vec::new()
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
