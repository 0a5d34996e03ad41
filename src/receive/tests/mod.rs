//! The receiver over real sockets and real TLS, with a double for the inbox.

mod answers;
mod deadlines;
mod drain;
mod identity;
mod logs;
mod support;
