//! Servers of others, for tests of what depends on them: started in a folder of their own, on a free port, and gone with the test.
//!
//! Only with the feature `servers`. The programs must be installed; what is missing is said with the name of the package.
//!
//! ```text
//! port      a port that stays free
//! postgres  a PostgreSQL that can be stopped, killed, frozen, restarted, made read-only, copied to a standby
//! process   processor time of a process, and which of a group or in a folder live
//! program   any server that is one program
//! proxy     a way to a server that can be cut: stalled, reset, slowed down
//! ```

mod port;
mod postgres;
mod process;
mod program;
mod proxy;

pub use port::free_port;
pub use postgres::{Error, Options, Postgres};
pub use process::Cpu;
pub use program::Program;
pub use proxy::{Proxy, Weather};
