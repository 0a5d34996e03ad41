//! What a command that lists, tells, replays or parks works with: an inbox beside it, or a service that it reaches.

use super::remote::Service;
use inbox::{Audit, Desk, Inbox, Sinks};

/// The inbox, by its interfaces.
#[derive(Clone, Copy)]
pub(super) struct Hands<'a> {
    pub(super) desk: &'a dyn Desk,
    pub(super) audit: &'a dyn Audit,
    pub(super) sinks: &'a dyn Sinks,
    /// The service, where it is reached through its API.
    pub(super) service: Option<&'a Service>,
}

impl<'a> From<&'a Inbox> for Hands<'a> {
    fn from(inbox: &'a Inbox) -> Self {
        Self { desk: &*inbox.desk, audit: &*inbox.audit, sinks: &*inbox.sinks, service: None }
    }
}

impl<'a> From<&'a Service> for Hands<'a> {
    fn from(service: &'a Service) -> Self {
        Self { desk: service, audit: service, sinks: service, service: Some(service) }
    }
}
