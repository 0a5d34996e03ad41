//! The vendor's words as types: bytes in, [`Event`] out. Pure; no I/O, no clock.
//!
//! Two layers, by intent. The envelope is strict: what makes an event addressable (`id`, `event_type`,
//! `resource_type`, `resource.id`) must be there, or the body is refused as [`Malformed`]. The inside is lenient:
//! what cannot be typed is [`Drift`], and the event is still kept and handed on, because each refusal may be a lost
//! event (the vendor publishes no retry policy). The bytes themselves are never rewritten: [`splice`] fills
//! `resource.accounts` in place, so member order, digits and unknown members reach the receiver untouched.
//!
//! Sources: the vendor's page, <https://developers.oxlin.io/docs/accounts-integration-webhooks-continuous>, and sections 4
//! and 6 of `docs/linxo-api.md`.

mod ids;
mod scan;
mod splice;
pub mod wire;

pub use ids::{AccountId, ChannelDefinitionId, ConnectionId, EventId, UserId};
pub use scan::{Compact, compact};
pub use splice::{Splice, SpliceError, splice};

use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt;

/// Deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: usize = 128;

/// Whether a list of accounts, or a connection, is nested so deep that an event which takes it in would be too deep.
#[must_use]
pub fn is_deeper_in_an_event(text: &[u8]) -> bool {
    // An event's accounts stand in two objects.
    scan::too_deep(text, MAX_DEPTH - 2).is_some()
}

/// What the service needs to know of an event; the body stays beside it as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How many accounts the event itself lists.
    pub listed: u64,
    /// Whether the accounts must be fetched.
    pub shape: Shape,
    /// Why the event could not be typed in full, if so.
    pub drift: Option<Drift>,
}

/// Whether an event carries its accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Delivered as it came.
    Whole,
    /// `account_count` > 0 and no accounts: they must be fetched.
    Truncated {
        /// The announced number of accounts.
        expected: u64,
    },
    /// Looks truncated, but cannot be typed: a person must look.
    Unclear,
}

/// Something in an event that this version cannot type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// An `event_type` or `resource_type` that is not implemented by the vendor today.
    UnknownType,
    /// A member of another shape than documented.
    Field {
        /// JSON path of the member, such as `$.resource.channels[0].mode`.
        path: String,
    },
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => f.write_str("unknown event_type or resource_type"),
            Self::Field { path } => write!(f, "{path} is not of the documented type"),
        }
    }
}

/// Why a body is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one JSON text (RFC 8259).
    #[error("the body is not JSON: {problem} at line {line} column {column}")]
    Syntax {
        /// What is wrong there; never quotes the body.
        problem: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// JSON, but not an object.
    #[error("the body is not a JSON object but {found} at line 1 column 1")]
    NotAnObject {
        /// What it is instead.
        found: &'static str,
    },
    /// A member without which nothing can be addressed.
    #[error("{path} {problem}")]
    Field {
        /// JSON path (RFC 9535).
        path: &'static str,
        /// `is missing`, `is empty`, `must be a string, not an array`, ...
        problem: String,
    },
}

impl Event {
    /// Reads an event from the bytes of a body.
    ///
    /// # Errors
    /// [`Malformed`] when the body is not JSON or lacks what makes an event; answer 400 or 422 accordingly.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let (line, column) = scan::position(body, error.valid_up_to());
            Malformed::Syntax { problem: "invalid UTF-8", line, column }
        })?;
        if let Some(offset) = scan::too_deep(body, MAX_DEPTH) {
            let (line, column) = scan::position(body, offset);
            return Err(Malformed::Syntax { problem: "nesting deeper than 128", line, column });
        }
        match serde_json::from_str::<wire::Event<'_>>(text) {
            Ok(event) => Self::from_typed(&event),
            Err(error) => Self::from_envelope(text, &error),
        }
    }

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
    /// The event with every field typed.
    fn from_typed(event: &wire::Event<'_>) -> Result<Self, Malformed> {
        let connection = &event.resource;
        let required = |path, value: &str| {
            if value.is_empty() {
                Err(Malformed::Field { path, problem: "is empty".to_owned() })
            } else {
                Ok(value.to_owned())
            }
        };
        let channel = event
            .channel_definition_id
            .as_ref()
            .and_then(|id| connection.channels.iter().flatten().find(|channel| channel.channel_definition_id == *id));
        let listed = connection.accounts.as_ref().map_or(0, Vec::len) as u64;
        let mut parsed = Self {
            id: EventId::new(required("$.id", &event.id.0)?),
            event_type: required("$.event_type", &event.event_type)?,
            resource_type: required("$.resource_type", &event.resource_type)?,
            connection: ConnectionId::new(required("$.resource.id", &connection.id.0)?),
            user: connection.user_id.as_ref().filter(|id| !id.0.is_empty()).map(|id| UserId::new(id.0.to_string())),
            channel: event.channel_definition_id.as_ref().map(|id| ChannelDefinitionId::new(id.0.to_string())),
            mode: channel.and_then(|channel| channel.mode.as_ref()).map(|text| text.0.to_string()),
            channel_status: channel.and_then(|channel| channel.status.as_ref()).map(|text| text.0.to_string()),
            status: connection.status.as_ref().map(|text| text.0.to_string()),
            provider: connection.provider_id.as_ref().map(|id| id.0.to_string()),
            created: event.creation_date,
            new_transactions: event
                .connection_updated
                .as_ref()
                .and_then(|updated| updated.new_transactions)
                .or(event.new_transactions),
            account_count: connection.account_count,
            listed,
            shape: match connection.account_count {
                Some(expected) if expected > 0 && listed == 0 => Shape::Truncated { expected },
                _ => Shape::Whole,
            },
            drift: None,
        };
        if !parsed.is_documented() {
            parsed.drift = Some(Drift::UnknownType);
            if parsed.resource_type != "CONNECTIONS" && parsed.shape != Shape::Whole {
                parsed.shape = Shape::Unclear;
            }
        }
        Ok(parsed)
    }

    /// The event whose typing failed with `error`: refused when the envelope is at fault, else kept as drift.
    fn from_envelope(text: &str, error: &serde_json::Error) -> Result<Self, Malformed> {
        scan::check_syntax(text)?;
        let found = scan::kind(text);
        if found != "an object" {
            return Err(Malformed::NotAnObject { found });
        }
        let repeated = |path| Malformed::Field { path, problem: "has a member that is given twice".to_owned() };
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_repeated_member| repeated("$"))?;
        let id = id_member("$.id", envelope.id)?;
        let event_type = text_member("$.event_type", envelope.event_type)?;
        let resource_type = text_member("$.resource_type", envelope.resource_type)?;
        let Some(resource) = envelope.resource else {
            return Err(Malformed::Field { path: "$.resource.id", problem: "is missing".to_owned() });
        };
        let found = scan::kind(resource.get());
        if found != "an object" {
            return Err(Malformed::Field { path: "$.resource", problem: format!("must be an object, not {found}") });
        }
        let resource: EnvelopeResource<'_> =
            serde_json::from_str(resource.get()).map_err(|_repeated_member| repeated("$.resource"))?;
        let connection = ConnectionId::new(id_member("$.resource.id", resource.id)?);
        let listed = match resource.accounts {
            None => 0,
            Some(raw) => serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_or(0, |accounts| accounts.len()) as u64,
        };
        let counted = !matches!(resource.account_count.map(RawValue::get), None | Some("0" | "null"));
        Ok(Self {
            id: EventId::new(id),
            event_type,
            resource_type,
            connection,
            user: lenient_id(resource.user_id).map(UserId::new),
            channel: lenient_id(envelope.channel_definition_id).map(ChannelDefinitionId::new),
            mode: None,
            channel_status: None,
            status: None,
            provider: None,
            created: envelope.creation_date.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            new_transactions: None,
            account_count: resource.account_count.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            listed,
            shape: if counted && listed == 0 { Shape::Unclear } else { Shape::Whole },
            drift: Some(Drift::Field { path: wire::path_of_failure(text, error) }),
        })
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

/// The members that make an event, each kept raw so that every problem can be named.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    resource_type: Option<&'a RawValue>,
    #[serde(borrow)]
    creation_date: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_definition_id: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EnvelopeResource<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    account_count: Option<&'a RawValue>,
    #[serde(borrow)]
    accounts: Option<&'a RawValue>,
}

/// A required string.
fn text_member(path: &'static str, raw: Option<&RawValue>) -> Result<String, Malformed> {
    let field = |problem: String| Malformed::Field { path, problem };
    let raw = raw.ok_or_else(|| field("is missing".to_owned()))?.get();
    let found = scan::kind(raw);
    if found != "a string" {
        return Err(field(format!("must be a string, not {found}")));
    }
    let text: String =
        serde_json::from_str(raw).map_err(|_lone_surrogate| field("is not valid Unicode text".to_owned()))?;
    if text.is_empty() { Err(field("is empty".to_owned())) } else { Ok(text) }
}

/// A required id: a string or an integer.
fn id_member(path: &'static str, raw: Option<&RawValue>) -> Result<String, Malformed> {
    match raw.map(RawValue::get) {
        Some(text) if scan::kind(text) == "a number" => {
            serde_json::from_str::<wire::Id<'_>>(text).map(|id| id.0.into_owned()).map_err(|_fraction| {
                Malformed::Field { path, problem: "must be a string or an integer of at most 64 bits".to_owned() }
            })
        }
        _ => text_member(path, raw).map_err(|malformed| match malformed {
            Malformed::Field { path, problem } => Malformed::Field {
                path,
                problem: problem.replace("must be a string,", "must be a string or an integer,"),
            },
            other => other,
        }),
    }
}

/// An optional id of an event that could not be typed: taken where it can be read.
fn lenient_id(raw: Option<&RawValue>) -> Option<String> {
    let id = serde_json::from_str::<wire::Id<'_>>(raw?.get()).ok()?.0.into_owned();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests;
