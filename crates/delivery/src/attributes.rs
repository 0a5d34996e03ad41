//! The `CloudEvents` 1.0 context attributes of a delivery. Names of extensions follow the specification: lower-case
//! letters and digits only.

use base::names::DeliveryId;
use event::{ChannelDefinitionId, ConnectionId, UserId};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Serialize, Serializer};

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
    /// Ids of the events that are delivered as this one, in the order in which they came: for each the `id` that it would have by
    /// itself. Present only where several events were merged; written as one text ([`merged`](Self::merged)).
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_text")]
    pub linxomerged: Vec<DeliveryId>,
}

/// What an id may not hold as it is in a list of ids. All that is not ASCII is encoded too.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');

impl Attributes {
    /// The text of [`linxomerged`](Self::linxomerged): ids with commas between. A comma, a per cent sign, white space and what is not
    /// ASCII stand as `%XX` in an id. `None`: nothing was merged.
    #[must_use]
    pub fn merged(&self) -> Option<String> {
        (!self.linxomerged.is_empty()).then(|| list(&self.linxomerged))
    }
}

fn list(ids: &[DeliveryId]) -> String {
    let mut text = String::new();
    for id in ids {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(utf8_percent_encode(id.as_str(), ENCODED));
    }
    text
}

fn as_text<S: Serializer>(ids: &[DeliveryId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&list(ids))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn merged_ids_are_one_text_that_can_be_taken_apart() {
        let mut attributes = fixture::attributes("e2~m0011223344556677");
        assert_eq!(attributes.merged(), None);
        attributes.linxomerged = ["e1", "a,b c%", "e2~tx"].map(DeliveryId::new).to_vec();
        assert_eq!(attributes.merged().as_deref(), Some("e1,a%2Cb%20c%25,e2~tx"));
        let json = serde_json::to_value(&attributes).unwrap();
        assert_eq!(json["linxomerged"], "e1,a%2Cb%20c%25,e2~tx");
    }
}
