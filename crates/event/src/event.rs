//! An event, as the service needs to know it.

use crate::ids::{ChannelDefinitionId, ConnectionId, EventId, MAX_ID, UserId};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// What the service needs to know of an event; the body stays beside it as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The vendor's id of the event. Not unique: the vendor's own two examples share one.
    pub id: EventId,
    /// What happened, as sent (`UPDATED`; also seen spelt `UDPATED`).
    pub event_type: String,
    /// What it happened to, as sent (`CONNECTIONS`).
    pub resource_type: String,
    /// `resource.id`: the bank connection.
    pub connection: ConnectionId,
    /// `resource.user_id`.
    pub user: Option<UserId>,
    /// The channel whose synchronisation ended.
    pub channel: Option<ChannelDefinitionId>,
    /// Mode of that channel, found in `resource.channels` by its definition id.
    pub mode: Option<String>,
    /// Status of that channel: the outcome of *this* synchronisation (`resource.status` is the connection's).
    pub channel_status: Option<String>,
    /// `resource.status`: of the connection as a whole.
    pub status: Option<String>,
    /// `resource.provider_id`: the bank.
    pub provider: Option<String>,
    /// `creation_date`, seconds since the epoch.
    pub created: Option<i64>,
    /// `connection_updated.new_transactions`, else the top-level `new_transactions`.
    pub new_transactions: Option<bool>,
    /// `resource.account_count`.
    pub account_count: Option<u64>,
    /// How many accounts the event itself lists, each counted once.
    pub listed: u64,
    /// Whether the accounts must be fetched.
    pub shape: Shape,
    /// Why the event could not be typed in full, if so.
    pub drift: Option<Drift>,
}

/// Whether an event carries its accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Delivered as it came.
    Whole,
    /// `account_count` > 0 and no accounts: they must be fetched.
    Truncated {
        /// The announced number of accounts.
        expected: u64,
    },
    /// Nobody can say what to fetch: the announced number cannot be read, or the user's id cannot be kept
    /// ([`Event::drift`] says which). A person must look.
    Unclear,
}

/// Something in an event that this version cannot type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drift {
    /// An `event_type` or `resource_type` that is not implemented by the vendor today.
    UnknownType,
    /// A member of another shape than documented.
    Field {
        /// JSON path of the member, such as `$.resource.channels[0].mode`.
        path: String,
    },
    /// A member that is longer than [`MAX_ID`].
    TooLong {
        /// JSON path of the member.
        path: Cow<'static, str>,
    },
    /// A list in which something stands twice.
    Repeated {
        /// JSON path of the list.
        path: Cow<'static, str>,
    },
    /// The request said that its body is something else than JSON.
    ContentType,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => f.write_str("unknown event_type or resource_type"),
            Self::Field { path } => write!(f, "{path} is not of the documented type"),
            Self::TooLong { path } => write!(f, "{path} is longer than {MAX_ID} bytes"),
            Self::Repeated { path } => write!(f, "{path} lists something twice"),
            Self::ContentType => f.write_str("the Content-Type is not one of JSON"),
        }
    }
}

impl Event {
    /// Whether this is the one kind of event that the vendor documents as implemented.
    #[must_use]
    pub fn is_documented(&self) -> bool {
        self.resource_type == "CONNECTIONS" && matches!(self.event_type.as_str(), "UPDATED" | "UDPATED")
    }

    /// `CloudEvents` type: `com.linxo.connections.updated` for the documented kind, made alike for others.
    #[must_use]
    pub fn cloud_type(&self) -> String {
        cloud_type(&self.resource_type, &self.event_type)
    }
}

/// `CloudEvents` type of an event from its two words, as sent.
#[must_use]
pub fn cloud_type(resource_type: &str, event_type: &str) -> String {
    let word = |word: &str| -> String {
        word.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(64).collect()
    };
    let event_type = if event_type == "UDPATED" { "updated".to_owned() } else { word(event_type) };
    format!("com.linxo.{}.{event_type}", word(resource_type))
}
