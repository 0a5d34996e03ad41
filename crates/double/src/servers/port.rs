//! A port for a server that is about to start.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

/// Below those that Linux gives to whoever connects or asks for any port: what is free now stays free for the server that is about to
/// start, and while it is restarted.
const PORTS: Range<u16> = 10_000..32_000;

/// A port of this machine that nobody listens on.
///
/// # Errors
/// No such port is found.
pub fn free_port() -> io::Result<u16> {
    let mut tries = (0..100).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS))));
    let found = tries.find_map(Result::ok).ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
    Ok(found.local_addr()?.port())
}
