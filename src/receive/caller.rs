//! Who a request comes from, as its connection knows it.

use super::trust::GenerationNumber;
use std::net::SocketAddr;

/// Who a request comes from. One for each connection, shared by its requests.
#[derive(Debug)]
pub(super) struct Caller {
    /// The socket's other end, or the caller that a balancer named.
    pub(super) peer: SocketAddr,
    /// Whether a verified certificate says who it is.
    pub(super) is_proven: bool,
    /// The authenticated sender as JSON (`identity`), kept with each entry.
    pub(super) sender: String,
    /// The TLS settings that the caller was accepted with.
    pub(super) generation: GenerationNumber,
}
