//! The `CloudEvents` 1.0 context attributes of a delivery. Names of extensions follow the specification: lower-case
//! letters and digits only.

use base::names::DeliveryId;
use event::{ChannelDefinitionId, ConnectionId, UserId};
use serde::Serialize;

/// Context attributes, in the order in which they are written. Absent ones are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// Distinct for every entry, the same on every retry and replay.
    pub id: DeliveryId,
    /// Base of the vendor's API.
    pub source: String,
    /// `com.linxo.connections.updated`
    #[serde(rename = "type")]
    pub cloud_type: String,
    /// The connection that the event is about.
    pub subject: ConnectionId,
    /// RFC 3339, from `creation_date`; when it was accepted, where the event is only a hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// The user, where the event names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxouser: Option<UserId>,
    /// The channel, where the event names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxochannel: Option<ChannelDefinitionId>,
    /// Mode of that channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxomode: Option<String>,
    /// Where the accounts come from.
    pub linxocompletion: Completion,
    /// Number of accounts delivered.
    pub linxoaccounts: u64,
    /// Present and `true` only where that number differs from `account_count`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub linxomismatch: bool,
    /// Present and `true` only where the sink was given something newer of the same connection and channel before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub linxostale: bool,
}

/// Where the accounts of a delivery come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// The event itself.
    Event,
    /// The vendor's API.
    Api,
    /// Nowhere: the vendor's API does not know the connection any more.
    Gone,
}

impl Completion {
    /// The word for it in attributes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Api => "api",
            Self::Gone => "gone",
        }
    }
}
