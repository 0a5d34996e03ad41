//! Works off the inbox: leases stages, fetches what events left out, delivers, ends the leases.
//!
//! ```text
//! pool          the loop of one stage: takes leases, keeps them, says how they end
//! room          how much is leased at once, and how much of that is worked on
//! settler       ends leases, many in one commit
//! fetch         what is done with the stages that get something from the vendor's API
//! deliver       what is done with the stage of a sink; compose makes the delivery, body streams its accounts
//! document      the same delivery for people who look on
//! filters       what the filters of sinks say of an entry
//! gate          whether a delivery may go to its sink now, and what its end says about the sink
//! recovery      pauses of sinks, and what goes back in line when a sink is well again
//! source        the client of the API that is in use
//! credentials   puts back in line what waited for other credentials
//! spans         what is told of work in traces
//! retry         when to try again, and when to stop: pure
//! attempts      tells who watches this process what came of each delivery
//! upkeep        retention, and the inbox's figures
//! sealing       rows from before the seal are sealed
//! ```
//!
//! One loop for each stage, each with its own permits, so that a slow sink or a slow API holds up nothing else. Order
//! within a connection is the inbox's promise.

mod attempts;
mod body;
mod compose;
mod credentials;
mod deliver;
mod document;
mod fetch;
mod figures;
mod filters;
mod gate;
mod pool;
mod pool_figures;
mod recovery;
mod retry;
mod room;
mod sealing;
pub mod settings;
mod settler;
mod source;
mod spans;
mod upkeep;

pub use attempts::{Attempt, Attempts, End};
pub use credentials::Credentials;
pub use deliver::Route;
pub use document::{Document, document};
pub use fetch::{Fetcher, Figures as FetchFigures};
pub use figures::Figures as DeliveryFigures;
pub use filters::{Filters, merging};
pub use gate::{Gate, View};
pub use pool::{Handler, Pool};
pub use pool_figures::Figures as PoolFigures;
pub use recovery::{Recovery, tell_orders};
pub use sealing::Sealing;
pub use source::Source;
pub use upkeep::{Upkeep, checkpoint_failures};
