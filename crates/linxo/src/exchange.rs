//! What is told of each call to the API, as it ends, to whoever asked for what it brought. Traces are made of it.

use crate::error::Error;
use reqwest::Url;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// One request and its answer.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    /// Base of the API.
    pub(crate) server: &'a Url,
    /// When it was sent. What was waited for before that (a token, a turn) does not count.
    pub began: Instant,
    /// From then to the last byte of the answer.
    pub took: Duration,
    /// Status of the answer, where one came.
    pub status: Option<u16>,
    /// Why the answer is of no use.
    pub error: Option<&'a Error>,
    /// Whether the same was sent before, with a token that was refused.
    pub is_resent: bool,
}

impl Exchange<'_> {
    /// Host of the API.
    #[must_use]
    pub fn host(&self) -> &str {
        self.server.host_str().unwrap_or_default()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.server.port_or_known_default()
    }
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({:?} after {:?})", self.status, self.took)
    }
}

/// Who is told. It is called before the answer is used, so it must be quick.
pub type Told<'a> = &'a (dyn Fn(&Exchange<'_>) + Sync);

/// For those who do not care.
pub const fn untold(_: &Exchange<'_>) {}
