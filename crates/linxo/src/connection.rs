//! `GET /connections/{id}`: one connection as the API knows it (`docs/linxo-api.md` sections 3 and 4).

use crate::error::{Error, Peer};
use bytes::Bytes;
use event::{self, ConnectionId, UserId, wire::Id};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Members that an event adds to its connection, so what the answer says of them is left out: the accounts are fetched by themselves.
const OF_THE_EVENT: [&str; 2] = ["account_count", "accounts"];

/// A connection: whose it is, and its JSON exactly as the API sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// The user it belongs to, where the API says so.
    pub user: Option<UserId>,
    /// A JSON object with at least an `id`, without `account_count` and `accounts`.
    pub json: Bytes,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} bytes)", self.json.len())
    }
}

#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    id: Id<'a>,
    #[serde(borrow)]
    user_id: Option<Id<'a>>,
}

/// The members of an object in their order, each value as it was written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The object without what belongs to the event; as it is where it has nothing of that.
fn without_accounts(body: &[u8]) -> serde_json::Result<Bytes> {
    let Members(members) = serde_json::from_slice(body)?;
    let is_of_the_event = |name: &str| OF_THE_EVENT.contains(&name);
    if !members.iter().any(|(name, _)| is_of_the_event(name)) {
        return Ok(Bytes::copy_from_slice(body));
    }
    let mut json = Vec::with_capacity(body.len());
    for (name, value) in members.iter().filter(|(name, _)| !is_of_the_event(name)) {
        json.push(if json.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut json, name)?;
        json.push(b':');
        json.extend_from_slice(value.get().as_bytes());
    }
    json.push(b'}');
    Ok(json.into())
}

impl Connection {
    /// Reads an answer.
    pub(crate) fn parse(body: &[u8], asked: &ConnectionId) -> Result<Self, Error> {
        let invalid = |problem: &str| Error::Answer { peer: Peer::Linxo, problem: problem.to_owned() };
        let body = body.trim_ascii();
        if event::is_deeper_in_an_event(body) {
            return Err(invalid("is nested deeper than an event may be"));
        }
        let found: Addressed<'_> =
            serde_json::from_slice(body).map_err(|_quotes_the_answer| invalid("is not a connection"))?;
        if found.id.0 != asked.as_str() {
            return Err(invalid("is another connection than the one that was asked for"));
        }
        let json = without_accounts(body).map_err(|_quotes_the_answer| invalid("is not a connection"))?;
        Ok(Self { user: found.user_id.map(|id| UserId::new(id.0)), json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_connection_that_was_asked_for_and_no_other() {
        let parse = |body: &str| Connection::parse(body.as_bytes(), &ConnectionId::new("7"));
        let connection = parse(" {\"id\":\"7\",\"user_id\":3,\"later\":1.50}\n").unwrap();
        assert_eq!(connection.user, Some(UserId::new("3")));
        assert_eq!(connection.json, r#"{"id":"7","user_id":3,"later":1.50}"#);
        for body in ["", "[]", "<html>", "{}", r#"{"id":"8"}"#, r#"{"id":"7"} 1"#] {
            assert!(parse(body).is_err(), "{body}");
        }
        // What it says of accounts is the event's to say.
        let counted =
            parse(r#"{"account_count":50,"id":"7","accounts":[{"id":"1"}],"later":1.50,"a\"b":{"accounts":2}}"#);
        assert_eq!(counted.unwrap().json, r#"{"id":"7","later":1.50,"a\"b":{"accounts":2}}"#);
        let nested = |levels: usize| format!(r#"{{"id":"7","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(125)).is_ok() && parse(&nested(126)).is_err());
    }
}
