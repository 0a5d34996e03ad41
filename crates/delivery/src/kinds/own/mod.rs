//! A sink of the program that the service is embedded in: the configuration names it, the program brings it.
//!
//! The usual program brings none, so `check` and `serve` refuse such a sink there.

use crate::{
    opens::{Cause, Opens},
    sink::Sink,
};

settings::section! {
    /// `[[sink]]` with type "own".
    pub struct Settings {}
}

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        Err(Missing.into())
    }
}

/// Nobody brought it.
#[derive(Debug, thiserror::Error)]
#[error("this program brings no sink of its own with this name: choose another type")]
struct Missing;
