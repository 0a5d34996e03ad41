//! An inbox on a server that may be away, and the journal beside it that takes events meanwhile.
//!
//! ```text
//! reached   how far this journal is folded, in a file of its own
//! beside    the journal: when it takes an event, and which connections have events in it
//! state     what all of these know together
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
mod state;

pub(crate) use opening::open;
