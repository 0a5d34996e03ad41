//! An inbox on a server that may be away, and the journal beside it that takes events meanwhile.
//!
//! ```text
//! reached   how far this journal is folded, in a file of its own
//! beside    the journal: when it takes an event, and which connections have events in it
//! folding   moves what the journal took into the store, once the server is back
//! opening   waits for the server, and opens the store when it is there
//! intake    the way in: the store, or the journal
//! pass      every other interface: hands on to the store, or says that it is away
//! ```
//!
//! In: a pool of connections, and perhaps a folder. While the server answers within [`connect::PATIENCE`], an event is answered after its
//! commit there, and the journal is empty: a receiver that loses its disk loses nothing. When the server does not answer, the event is
//! safe in the journal of this receiver. When it answers again, what is there is folded in order.
//!
//! Promises:
//! - The order of a connection holds within this receiver: an event of a connection that has unfolded events here goes behind them.
//!   Between receivers it does not hold for such events: another receiver that reaches the server is first.
//! - An event whose commit was not answered in time may have been stored. It is stored once all the same: the fold finds its content.
//! - The server must hold the inbox that this receiver knows. After a failover to a server without the data, events are answered
//!   503 and nothing is folded, until somebody decides.

mod beside;
mod folding;
mod intake;
mod opening;
mod pass;
mod reached;

pub(crate) use opening::open;

use crate::{
    Error, Keys,
    intake::Told,
    postgres::{Postgres, connect::Pool},
};
use base::sync::lock;
use beside::Beside;
use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, watch};

/// See the head of this file.
pub(crate) struct Remote {
    pool: Pool,
    /// `None` until the server was there once.
    store: watch::Sender<Option<Arc<Postgres>>>,
    keys: Arc<OnceLock<Keys>>,
    /// Why the store is not open, or why its server cannot be used now; `None`: nothing is known against it.
    problem: Mutex<Option<String>>,
    /// The journal, once it is known of which inbox it is.
    beside: OnceLock<Beside>,
    told: Arc<OnceLock<Told>>,
    /// Pauses of sinks were asked for since the store is open, so nothing is delivered to a sink that an operator paused.
    knows_pauses: AtomicBool,
    is_closed: AtomicBool,
    closing: Notify,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("pool", &self.pool).field("problem", &self.problem).finish_non_exhaustive()
    }
}

impl Remote {
    /// The store, where it is open.
    fn opened(&self) -> Option<Arc<Postgres>> {
        self.store.borrow().clone()
    }

    /// The store, or why there is none.
    fn store(&self) -> Result<Arc<Postgres>, Error> {
        self.opened().ok_or_else(|| self.away())
    }

    /// Why the server cannot be used.
    fn away(&self) -> Error {
        if self.is_closed.load(Ordering::Acquire) {
            return Error::Closed;
        }
        if let Some(fault) = self.pool.foreign() {
            return fault.into();
        }
        let problem = lock(&self.problem).clone();
        Error::Away(problem.unwrap_or_else(|| "PostgreSQL was not reached yet".to_owned()).into())
    }
}
