//! Rows of PostgreSQL: one for each event, and if asked one for each account with its latest state.
//!
//! In: deliveries. Out: `Ok` after the server acknowledged the commit, which is synchronous whatever the server's settings say.
//!
//! ```text
//! settings   what a sink is told
//! sql        the tables, and the one statement that fills them; pure
//! fault      what an error means
//! link       connections
//! batch      from deliveries to the arrays of a statement
//! sink       hands batches over
//! ```
//!
//! Promises, held by `tests` on a real server:
//! - An event is one row, however often it is delivered. Its JSON is the completed event byte for byte (type `json`, not
//!   `jsonb`, which would lose the order of members).
//! - A batch is one statement: one transaction, one round trip. A row that the server refuses keeps no other row out.
//! - The row of an account holds the newest snapshot, in whatever order events arrive: time is that for which the accounts
//!   hold ([`Delivery::as_of`](crate::Delivery::as_of)).
//! - Nothing but `sink init` makes a table.
//!
//! Not here: deletion. What is kept, and for how long, is the integrator's own decision.

mod settings;

#[cfg(feature = "postgres")]
mod batch;
#[cfg(feature = "postgres")]
mod fault;
#[cfg(feature = "postgres")]
mod link;
#[cfg(feature = "postgres")]
mod readable;
#[cfg(feature = "postgres")]
mod sink;
#[cfg(feature = "postgres")]
mod sql;
#[cfg(feature = "postgres")]
#[cfg(test)]
mod tests;

pub use self::settings::Settings;

#[cfg(not(feature = "postgres"))]
impl crate::opens::Opens for Settings {
    fn open(&self) -> Result<Box<dyn crate::Sink>, crate::opens::Cause> {
        Err(crate::built::NotBuilt.into())
    }
}
