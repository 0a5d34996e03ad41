//! Reads an event in which something has another type than documented: whatever can be read is read, each member by itself.
//!
//! In: a body that could not be typed as a whole. Out: the event with its first [`Drift`]; or why it is none. The same
//! members are read as from a documented event, so a drift in one of them costs nothing but that one: an event whose
//! `creation_date` is a date in words still has its mode and its status, and is completed.

use crate::{
    event::{Drift, Event, Shape},
    ids::{ChannelDefinitionId, ConnectionId, EventId},
    malformed::Malformed,
    noted::{Noted, distinct, required},
    scan, wire,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What makes an event, each kept raw so that every problem can be named. A member that is given twice is refused here: a
/// reader behind us could take the other one.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    resource_type: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
}

/// The members of `resource` that say what to fetch.
#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    account_count: Option<&'a RawValue>,
    #[serde(borrow)]
    accounts: Option<&'a RawValue>,
}

/// The event whose typing failed with `error`: refused when the envelope is at fault, else kept as drift.
pub(super) fn read(text: &str, error: &serde_json::Error) -> Result<Event, Malformed> {
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
    let Some(raw) = envelope.resource.map(RawValue::get) else {
        return Err(Malformed::Field { path: "$.resource.id", problem: "is missing".to_owned() });
    };
    let found = scan::kind(raw);
    if found != "an object" {
        return Err(Malformed::Field { path: "$.resource", problem: format!("must be an object, not {found}") });
    }
    let resource: Resource<'_> = serde_json::from_str(raw).map_err(|_repeated_member| repeated("$.resource"))?;
    let connection = ConnectionId::new(id_member("$.resource.id", resource.id)?);

    let mut noted = Noted::default();
    noted.note(Drift::Field { path: wire::path_of_failure(text, error) });
    let listed = resource.accounts.map_or(0, |accounts| listed(accounts.get()));
    let account_count = resource.account_count.and_then(|raw| count(raw.get()));
    let shape = match account_count {
        _ if listed > 0 || resource.account_count.is_none() => Shape::Whole,
        Some(0) => Shape::Whole,
        Some(expected) => Shape::Truncated { expected },
        None => {
            noted.unclear = Some(Drift::Field { path: "$.resource.account_count".to_owned() });
            Shape::Unclear
        }
    };
    let [created, channel, updated, flag] =
        scan::members(text, ["creation_date", "channel_definition_id", "connection_updated", "new_transactions"]);
    let [flag_within] = updated.map_or([None], |updated| scan::members(updated, ["new_transactions"]));
    let [status, provider, channels] = scan::members(raw, ["status", "provider_id", "channels"]);
    let channel = channel.and_then(id_of);
    let [mode, channel_status] = channel.as_deref().and_then(|id| channel_of(channels?, id)).unwrap_or_default();
    let user = resource.user_id.and_then(|raw| id_of(raw.get()));
    let mut event = Event {
        id: EventId::new(id),
        event_type,
        resource_type,
        connection,
        user: noted.user(user.as_deref()),
        channel: noted.text("$.channel_definition_id", channel).map(ChannelDefinitionId::new),
        mode: noted.text("$.resource.channels.mode", mode.and_then(text_of)),
        channel_status: noted.text("$.resource.channels.status", channel_status.and_then(text_of)),
        status: noted.text("$.resource.status", status.and_then(text_of)),
        provider: noted.text("$.resource.provider_id", provider.and_then(id_of)),
        created: created.and_then(|raw| serde_json::from_str(raw).ok()),
        new_transactions: flag_within.and_then(flag_of).or_else(|| flag.and_then(flag_of)),
        account_count,
        listed,
        shape,
        drift: None,
    };
    noted.finish(&mut event);
    Ok(event)
}

/// How many accounts a list holds, each counted once. An object without an id is an account that nobody can name; anything
/// else is none, and so is every item of what is no list.
fn listed(accounts: &str) -> u64 {
    let items: Vec<&RawValue> = serde_json::from_str(accounts).unwrap_or_default();
    let accounts = || items.iter().map(|item| item.get()).filter(|item| scan::kind(item) == "an object");
    let ids: Vec<String> = accounts().filter_map(|account| id_of(scan::members(account, ["id"])[0]?)).collect();
    let nameless = accounts().count().saturating_sub(ids.len()) as u64;
    distinct(&mut ids.iter().map(String::as_str).collect::<Vec<_>>()) + nameless
}

/// A whole number, however it is written: `50`, `"50"`, `50.0`, `5e1`.
fn count(raw: &str) -> Option<u64> {
    let text = text_of(raw);
    let digits = text.as_deref().map_or(raw, str::trim);
    if let Ok(count) = digits.parse() {
        return Some(count);
    }
    // Only what JSON calls a number: `inf` is a number to the parser of floats as well.
    if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')) {
        return None;
    }
    let number: f64 = digits.parse().ok()?;
    // Above this, a binary float does not hold every whole number any more.
    let is_whole = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
    if is_whole { format!("{number:.0}").parse().ok() } else { None }
}

/// Mode and status of the channel with this definition id.
fn channel_of<'a>(channels: &'a str, id: &str) -> Option<[Option<&'a str>; 2]> {
    let channels: Vec<&RawValue> = serde_json::from_str(channels).ok()?;
    channels.into_iter().find_map(|channel| {
        let [found, mode, status] = scan::members(channel.get(), ["channel_definition_id", "mode", "status"]);
        (id_of(found?)? == id).then_some([mode, status])
    })
}

fn flag_of(raw: &str) -> Option<bool> {
    serde_json::from_str(raw).ok()
}

fn text_of(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// An optional id, where it is one.
fn id_of(raw: &str) -> Option<String> {
    let id = wire::Id::of(raw)?.0.into_owned();
    (!id.is_empty()).then_some(id)
}

/// A required string.
fn text_member(path: &'static str, raw: Option<&RawValue>) -> Result<String, Malformed> {
    text(path, raw, "a string")
}

/// A required id: a string or an integer.
fn id_member(path: &'static str, raw: Option<&RawValue>) -> Result<String, Malformed> {
    const WANTED: &str = "a string or an integer";
    match raw.map(RawValue::get) {
        Some(number) if scan::kind(number) == "a number" => match wire::Id::of(number) {
            Some(id) => required(path, &id.0),
            None => Err(Malformed::Field { path, problem: format!("must be {WANTED}") }),
        },
        _ => text(path, raw, WANTED),
    }
}

fn text(path: &'static str, raw: Option<&RawValue>, wanted: &str) -> Result<String, Malformed> {
    let field = |problem: String| Malformed::Field { path, problem };
    let raw = raw.ok_or_else(|| field("is missing".to_owned()))?.get();
    let found = scan::kind(raw);
    if found != "a string" {
        return Err(field(format!("must be {wanted}, not {found}")));
    }
    let text = text_of(raw).ok_or_else(|| field("is not valid Unicode text".to_owned()))?;
    required(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_whole_number_however_it_is_written() {
        for fifty in ["50", r#""50""#, "50.0", "50.000", "5e1", r#"" 50 ""#, r#""50.0""#, r#""050""#, "5.0E+1"] {
            assert_eq!(count(fifty), Some(50), "{fifty}");
        }
        assert_eq!(count("18446744073709551615"), Some(u64::MAX));
        for none in
            ["50.5", "-1", r#""""#, r#""many""#, r#""inf""#, r#""NaN""#, "true", "{}", "[50]", "1e300", r#""-""#]
        {
            assert_eq!(count(none), None, "{none}");
        }
    }

    #[test]
    fn accounts_are_counted_once_each() {
        for (accounts, count) in [
            (r#"[{"id":1},{"id":"1"},{"id":2}]"#, 2),
            (r#"[{"id":null},{}]"#, 2),
            ("[null,7,[]]", 0),
            ("{}", 0),
            ("null", 0),
            (r#""none""#, 0),
        ] {
            assert_eq!(listed(accounts), count, "{accounts}");
        }
    }
}
