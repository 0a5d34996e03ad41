//! The control socket: how commands of the same machine reach a running service.
//!
//! HTTP over a Unix socket beside the inbox's file, or in `inbox.folder` with PostgreSQL. Whoever may write there may use the socket
//! (mode 0600), so it asks for no token. A command that finds nobody there does what it can on the inbox itself.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /sinks` | every sink: a list of [`SinkReport`] |
//! | `GET /held` | what the service holds: [`Held`] |
//! | `GET /inbox/stats` | the inbox as a whole: [`Overview`] |
//! | `GET /inbox/happenings?...` ([`Wanted`]) | what happens, until the service ends: a [`Line`] of JSON each |
//! | `POST /sinks/NAME/pause`, `POST /sinks/NAME/resume` | [`Changed`] |
//! | `POST /inbox/clear` | [`Changed`], once nothing that was deleted stays in the log or the journal |
//! | `POST /inbox/erase`, with an [`inbox::Subject`] as JSON | [`inbox::Erased`], once everything of a user or a connection is erased |
//! | `POST /sinks/NAME/test` | [`Tested`], after a test delivery |

mod client;
mod happenings;
mod overview;
mod report;
mod server;

pub use client::{Client, Error, Following};
pub use happenings::{Line, Told, Wanted};
pub use overview::{LastError, Overview, Taker, Work, overview};
pub use report::{Changed, Held, SinkReport, Tested, report, try_out};
pub use server::{Bound, Sink, State, bind};

use std::path::PathBuf;

/// Where the socket of this inbox is.
#[must_use]
pub fn path(settings: &inbox::Settings) -> PathBuf {
    settings.control_socket()
}
