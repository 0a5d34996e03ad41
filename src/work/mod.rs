//! Works off the inbox: leases stages, fetches what events left out, delivers, ends the leases.
//!
//! ```text
//! pool          the loop of one stage: takes leases, keeps them, ends them
//! fetch         what is done with the stages that get something from the vendor's API
//! deliver       what is done with the stage of a sink; compose makes the delivery, body streams its accounts
//! source        the client of the API that is in use
//! credentials   puts back in line what waited for other credentials
//! retry         when to try again, and when to stop: pure
//! upkeep        retention, and the inbox's figures
//! ```
//!
//! One loop for each stage, each with its own permits, so that a slow sink or a slow API holds up nothing else. Order
//! within a connection is the inbox's promise.

mod body;
mod compose;
mod credentials;
mod deliver;
mod fetch;
mod pool;
mod retry;
pub mod settings;
mod source;
mod upkeep;

pub use credentials::Credentials;
pub use deliver::{Figures as DeliveryFigures, Route};
pub use fetch::{Fetcher, Figures as FetchFigures};
pub use pool::{Figures as PoolFigures, Handler, Pool};
pub use source::Source;
pub use upkeep::Upkeep;
