//! Whoever started this process and looks after it: systemd, or another program that speaks its two protocols.
//!
//! In: sockets that were opened for the service (`LISTEN_FDS`), and how the service stands. Out: listeners, and notices
//! (`NOTIFY_SOCKET`): ready, reloading, stopping, what keeps events from being taken, that the service is alive.
//!
//! ```text
//! sockets   what was handed over -> the public listener, the admin listener
//! notices   how the service stands -> lines for the supervisor
//! ```
//!
//! Promises, held by `tests/it/supervised.rs`:
//! - With a socket that was handed over no caller is refused while the service restarts: callers wait in the socket.
//! - Ready is said once an event would get its 2xx, and not before.
//! - That the service is alive is said only after the loop that accepts callers has made a turn.
//!
//! Not here: who may call, which holds for a socket that was handed over as for any other. Without a supervisor nothing of
//! this happens.

mod notices;
mod sockets;

pub use notices::{Standing, Supervisor};
pub use sockets::{Error, Sockets};
