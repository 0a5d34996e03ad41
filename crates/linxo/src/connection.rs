//! `GET /connections/{id}`: one connection as the API knows it (`docs/linxo-api.md` sections 3 and 4).

use crate::error::{Error, Peer};
use bytes::Bytes;
use event::{self, ConnectionId, UserId, wire::Id};
use serde::Deserialize;
use std::fmt;

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
    account_count: Option<serde::de::IgnoredAny>,
    accounts: Option<serde::de::IgnoredAny>,
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
        if found.account_count.is_some() || found.accounts.is_some() {
            return Err(invalid("is a connection with accounts of its own, which have no place in an event"));
        }
        Ok(Self { user: found.user_id.map(|id| UserId::new(id.0)), json: Bytes::copy_from_slice(body) })
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
        for body in ["", "[]", "<html>", "{}", r#"{"id":"8"}"#, r#"{"id":"7","accounts":[]}"#, r#"{"id":"7"} 1"#] {
            assert!(parse(body).is_err(), "{body}");
        }
        let nested = |levels: usize| format!(r#"{{"id":"7","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(125)).is_ok() && parse(&nested(126)).is_err());
    }
}
