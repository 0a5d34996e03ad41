//! The receiver over real sockets and real TLS, with a double for the inbox.

mod answers;
mod deadlines;
mod drain;
mod farewell;
mod flood;
mod framing;
mod identity;
mod limits;
mod logs;
mod support;
mod trust;
mod wire;
