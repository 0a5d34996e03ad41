//! The vendor's words as types: bytes in, [`Event`] out. Pure; no I/O, no clock.
//!
//! Two layers, by intent. The envelope is strict: what makes an event addressable (`id`, `event_type`,
//! `resource_type`, `resource.id`) must be there, or the body is refused as [`Malformed`]. The inside is lenient:
//! what cannot be typed is [`Drift`], and the event is still kept, completed and handed on, because each refusal may be a
//! lost event (the vendor publishes no retry policy). Completion needs the connection, a number of accounts that can be read
//! as a whole number, and no accounts in the event; nothing else in it can be in the way. The bytes themselves are never rewritten: [`splice`] fills
//! `resource.accounts` in place, so member order, digits and unknown members reach the receiver untouched.
//!
//! Sources: the vendor's page, <https://developers.oxlin.io/docs/accounts-integration-webhooks-continuous>, and sections 4
//! and 6 of `docs/linxo-api.md`.

mod ids;
mod lenient;
mod scan;
mod splice;
pub mod wire;

pub use ids::{AccountId, ChannelDefinitionId, ConnectionId, EventId, UserId};
pub use scan::{Compact, compact};
pub use splice::{Splice, SpliceError, splice};

use std::fmt;

/// Deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: usize = 128;

/// Longest id, in bytes. The vendor's are short (`docs/linxo-api.md` section 4); ids become keys and header values, and
/// must not be as long as whoever sends them likes.
pub const MAX_ID: usize = 256;

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
    /// How many accounts the event itself lists, each counted once.
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
    /// Nobody can say what to fetch: the announced number cannot be read, or the user's id cannot be kept
    /// ([`Event::drift`] says which). A person must look.
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
    /// A member that is longer than [`MAX_ID`].
    TooLong {
        /// JSON path of the member.
        path: &'static str,
    },
    /// A list in which something stands twice.
    Repeated {
        /// JSON path of the list.
        path: &'static str,
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
        /// `is missing`, `is empty`, `is longer than 256 bytes`, `must be a string, not an array`, ...
        problem: String,
    },
}

impl Event {
    /// Reads an event from the bytes of a body; a byte order mark is skipped.
    ///
    /// # Errors
    /// [`Malformed`] when the body is not JSON or lacks what makes an event; answer 400 or 422 accordingly.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let body = without_mark(body);
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
            Err(error) => lenient::read(text, &error),
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
        let id = EventId::new(required("$.id", &event.id.0)?);
        let event_type = required("$.event_type", &event.event_type)?;
        let resource_type = required("$.resource_type", &event.resource_type)?;
        let resource = ConnectionId::new(required("$.resource.id", &connection.id.0)?);
        let channel = event
            .channel_definition_id
            .as_ref()
            .and_then(|id| connection.channels.iter().flatten().find(|channel| channel.channel_definition_id == *id));
        let mut accounts: Vec<&str> = connection.accounts.iter().flatten().map(|account| &*account.id.0).collect();
        let came = accounts.len() as u64;
        let listed = distinct(&mut accounts);
        let mut noted = Noted::default();
        let expected = connection.account_count.filter(|count| *count > 0 && listed == 0);
        let text = |text: &Option<wire::Text<'_>>| text.as_ref().map(|text| text.0.to_string());
        let mut parsed = Self {
            user: noted.user(connection.user_id.as_ref().map(|id| &*id.0)),
            channel: noted
                .text("$.channel_definition_id", event.channel_definition_id.as_ref().map(|id| id.0.to_string()))
                .map(ChannelDefinitionId::new),
            mode: noted.text("$.resource.channels.mode", channel.and_then(|channel| text(&channel.mode))),
            channel_status: noted.text("$.resource.channels.status", channel.and_then(|channel| text(&channel.status))),
            status: noted.text("$.resource.status", text(&connection.status)),
            provider: noted.text("$.resource.provider_id", connection.provider_id.as_ref().map(|id| id.0.to_string())),
            created: event.creation_date,
            new_transactions: event
                .connection_updated
                .as_ref()
                .and_then(|updated| updated.new_transactions)
                .or(event.new_transactions),
            account_count: connection.account_count,
            listed,
            shape: expected.map_or(Shape::Whole, |expected| Shape::Truncated { expected }),
            drift: None,
            id,
            event_type,
            resource_type,
            connection: resource,
        };
        if !parsed.is_documented() {
            noted.note(Drift::UnknownType);
        }
        if listed < came {
            noted.note(Drift::Repeated { path: "$.resource.accounts" });
        }
        noted.finish(&mut parsed);
        Ok(parsed)
    }
}

/// What was noticed of an event while it was read: the first thing of all.
#[derive(Debug, Default)]
struct Noted {
    first: Option<Drift>,
    /// Why a person must look, which is said instead.
    unclear: Option<Drift>,
}

impl Noted {
    fn note(&mut self, drift: Drift) {
        self.first.get_or_insert(drift);
    }

    /// The user. Without one whose id can be kept, nobody can say for whom to ask: the event is left to a person.
    fn user(&mut self, id: Option<&str>) -> Option<UserId> {
        let id = id.filter(|id| !id.is_empty())?;
        if id.len() > MAX_ID {
            self.unclear = Some(Drift::TooLong { path: "$.resource.user_id" });
            return None;
        }
        Some(UserId::new(id))
    }

    /// A text that is only a label; one that is too long for that stays in the body.
    fn text(&mut self, path: &'static str, text: Option<String>) -> Option<String> {
        let text = text?;
        if text.len() > MAX_ID {
            self.note(Drift::TooLong { path });
            return None;
        }
        Some(text)
    }

    /// Enters what was noticed.
    fn finish(self, event: &mut Event) {
        if self.unclear.is_some() {
            event.shape = Shape::Unclear;
        }
        event.drift = self.unclear.or(self.first);
    }
}

/// A required text or id that was read.
fn required(path: &'static str, value: &str) -> Result<String, Malformed> {
    let problem = match value.len() {
        0 => "is empty".to_owned(),
        1..=MAX_ID => return Ok(value.to_owned()),
        _ => format!("is longer than {MAX_ID} bytes"),
    };
    Err(Malformed::Field { path, problem })
}

/// How many of these ids differ. Sorts them.
fn distinct(ids: &mut [&str]) -> u64 {
    ids.sort_unstable();
    let repeats = ids.iter().zip(ids.iter().skip(1)).filter(|(one, next)| one == next).count();
    ids.len().saturating_sub(repeats) as u64
}

/// A body without its byte order mark (RFC 8259 section 8.1 lets a reader skip one). The mark is no part of the JSON text.
#[must_use]
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
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

#[cfg(test)]
mod tests;
