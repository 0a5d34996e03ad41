//! What every part of the service needs and no part of the flow owns.
//!
//! | module | what |
//! | --- | --- |
//! | [`clock`] | the time of day, as milliseconds |
//! | [`error`] | an error and its sources in one line |
//! | [`folder`] | folders, and files that stand beside another one |
//! | [`names`] | names that several parts use, as types |
//! | [`neighbour`] | a server of others as its callers see it: who may call it now |
//! | [`outbound`] | which addresses the service may call |
//! | [`reach`] | whether a server can be reached, without a request to it |
//! | [`retry_after`] | the `Retry-After` header of RFC 9110 section 10.2.3 |
//! | [`secret`] | texts that are never printed, and wiped |
//! | [`seldom`] | a log line that is written once a minute |
//! | [`stamp`] | whether a file has changed |
//! | [`sync`] | a lock that outlives a panic |
//! | [`text`] | text from outside that may be shown to people |
//! | [`trace`] | the place of a request in a trace |
//! | [`trust`] | how far a server of others is trusted: pure |

pub mod clock;
pub mod error;
pub mod folder;
pub mod names;
pub mod neighbour;
pub mod outbound;
pub mod reach;
pub mod retry_after;
pub mod secret;
pub mod seldom;
pub mod stamp;
pub mod sync;
pub mod text;
pub mod trace;
pub mod trust;
