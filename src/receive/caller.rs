//! Who a request comes from, as its connection knows it.

use std::net::SocketAddr;

/// Who a request comes from. One a connection, shared by its requests.
#[derive(Debug)]
pub(super) struct Caller {
    /// The socket's other end, or the caller that a balancer named.
    pub(super) peer: SocketAddr,
    /// Whether a verified certificate says who it is.
    pub(super) is_proven: bool,
    /// Kept with each entry: [`Sender`] as JSON.
    pub(super) sender: String,
    /// Of the TLS settings that the caller was accepted with.
    pub(super) generation: u64,
}
