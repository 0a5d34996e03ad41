//! The `CloudEvents` 1.0 context attributes of a delivery, in structured and in binary form.
//!
//! Extension names follow the specification: lower-case letters and digits only.

use serde::Serialize;

/// Context attributes, in the order in which they are written. Absent ones are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// Distinct for every entry, the same on every retry and replay.
    pub id: String,
    /// Base of the vendor's API.
    pub source: String,
    /// `com.linxo.connections.updated`
    #[serde(rename = "type")]
    pub cloud_type: String,
    /// Connection id.
    pub subject: String,
    /// RFC 3339, from `creation_date`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Always `application/json`.
    pub datacontenttype: &'static str,
    /// User id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxouser: Option<String>,
    /// Channel definition id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linxochannel: Option<String>,
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
}

/// Where the accounts of a delivery come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// The event itself.
    Event,
    /// The vendor's API.
    Api,
}
