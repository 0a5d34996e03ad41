//! Bank data out of sight: the JSON of an event with everything hidden that is not known to be harmless.
//!
//! What is shown is listed; so a member that the vendor adds tomorrow is hidden. Structure, `true`, `false` and `null` stay, so
//! that the shape of an event can still be judged.

use serde_json::{Map, Value};

/// What stands for a hidden value.
pub const HIDDEN: &str = "•••";

/// Members whose values are shown anywhere: ids, words of the vendor's, counts, times.
const SHOWN: &[&str] = &[
    "account_count",
    "channel_definition_id",
    "channels",
    "created",
    "creation_date",
    "currency",
    "event_type",
    "id",
    "mode",
    "new_transactions",
    "provider",
    "provider_id",
    "resource_type",
    "status",
    "type",
    "user_id",
];
/// Of what lies in an account only these are: its other ids may be numbers of a bank.
const SHOWN_OF_ACCOUNT: &[&str] = &["connection_id", "currency", "id", "status", "type"];

/// The event without bank data, laid out for people; the order of its members is that of their names. What is no JSON is hidden as
/// a whole.
#[must_use]
pub fn masked(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(event::without_mark(body)) else { return HIDDEN.to_owned() };
    let masked = hide(value, false, SHOWN);
    // What was JSON can be written.
    serde_json::to_string_pretty(&masked).unwrap_or_else(|_error| HIDDEN.to_owned())
}

fn hide(value: Value, is_shown: bool, shown: &'static [&'static str]) -> Value {
    match value {
        Value::Object(members) => Value::Object(of_members(members, shown)),
        Value::Array(entries) => entries.into_iter().map(|entry| hide(entry, is_shown, shown)).collect(),
        Value::String(_) | Value::Number(_) if !is_shown => HIDDEN.into(),
        other => other,
    }
}

fn of_members(members: Map<String, Value>, shown: &'static [&'static str]) -> Map<String, Value> {
    let below = |(name, value): (String, Value)| {
        let below = if name == "accounts" { SHOWN_OF_ACCOUNT } else { shown };
        let value = hide(value, shown.contains(&name.as_str()), below);
        (name, value)
    };
    members.into_iter().map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_harmless_is_shown() {
        let text = r#"{"id":"e1","event_type":"UPDATED","resource":{"id":"c1","user_id":"u1","account_count":1,"name":"Mme Durand",
            "credentials":{"login":"0123"},"new":7,"accounts":[{"id":"a1","iban":"FR7630006000011234567890189","balance":12.34,
            "currency":"EUR","owner":{"name":"Durand","type":"x"},"is_open":true,"tags":["a",1,null]}]}}"#;
        let masked = masked(text.as_bytes());
        for secret in ["Durand", "0123", "FR76", "12.34", "7,", "\"a\""] {
            assert!(!masked.contains(secret), "{secret} in {masked}");
        }
        for shown in ["\"e1\"", "UPDATED", "\"c1\"", "\"u1\"", "\"account_count\": 1", "\"a1\"", "EUR", "true", "null"]
        {
            assert!(masked.contains(shown), "{shown} in {masked}");
        }
    }

    #[test]
    fn what_is_no_json_is_hidden_as_a_whole() {
        for text in ["", "FR7630006000011234567890189", "{\"id\":", "\u{feff}"] {
            assert!(!masked(text.as_bytes()).contains("FR76"));
        }
        assert_eq!(
            masked(b"\"FR7630006000011234567890189\""),
            "\"FR7630006000011234567890189\"".replace("FR7630006000011234567890189", HIDDEN)
        );
    }
}
