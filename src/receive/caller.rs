//! Who a request comes from, as its connection knows it.

use super::{drain::NOTICE, trust::Generation};
use std::{net::SocketAddr, sync::Arc};
use tokio::time::Instant;

/// Who a request comes from. One for each connection, shared by its requests.
#[derive(Debug)]
pub(super) struct Caller {
    /// The socket's other end, or the caller that a balancer named.
    pub(super) peer: SocketAddr,
    /// Whether a verified certificate says who it is.
    pub(super) is_proven: bool,
    /// Whether that, or its network, told it from a stranger when it came.
    pub(super) is_known: bool,
    /// The authenticated sender as JSON (`identity`), kept with each entry.
    pub(super) sender: String,
    /// The TLS settings that the caller was accepted with.
    pub(super) generation: Arc<Generation>,
    /// When the certificate ends that let it in.
    pub(super) ends: Option<Instant>,
}

/// How long a connection may still be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// Until further notice.
    Open,
    /// Its end is announced: requests are taken for another moment.
    Noticed,
    /// No more requests are taken. A caller that does not go by itself is ended.
    Over,
}

impl Caller {
    /// How long its connection may still be used: no longer than its certificate, nor than a moment after the TLS settings
    /// were replaced that it was accepted with.
    pub(super) fn term(&self) -> Term {
        let retired = self.generation.retired();
        if retired.is_none() && self.ends.is_none() {
            return Term::Open;
        }
        let now = Instant::now();
        let is_over = |end: Instant| now >= end;
        if retired.is_some_and(|at| is_over(at + NOTICE)) || self.ends.is_some_and(is_over) {
            Term::Over
        } else if retired.is_some() || self.ends.is_some_and(|end| is_over(end.checked_sub(NOTICE).unwrap_or(end))) {
            Term::Noticed
        } else {
            Term::Open
        }
    }
}
