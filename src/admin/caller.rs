//! Who is at the other end of a socket, and what the socket is good for.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What is known of a socket before its request is read. Clones speak of the same socket.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    pub(super) is_tls: bool,
    /// DNS names of the client certificate, which was verified.
    pub(super) names: Arc<[String]>,
    is_long: Arc<AtomicBool>,
}

impl Caller {
    pub(super) fn new(peer: SocketAddr, is_tls: bool, names: Vec<String>) -> Self {
        Self { peer, is_tls, names: names.into(), is_long: Arc::default() }
    }

    /// The answer is a stream that goes on: the socket's time does not end it.
    pub(super) fn stay(&self) {
        self.is_long.store(true, Ordering::Relaxed);
    }

    /// Whether the answer goes on.
    pub(super) fn stays(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    /// What counts as one address: an IPv6 /64 does.
    pub(super) fn address(&self) -> IpAddr {
        match self.peer.ip().to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
            ip @ IpAddr::V4(_) => ip,
        }
    }
}
