//! One page of `GET /accounts`, both wire versions (`docs/linxo-api.md` sections 3 and 8).
//!
//! In: the bytes of an answer. Out: accounts that are slices of them. An answer that is not a list is an error that quotes
//! nothing. An item of the list that cannot be used (`null`, or without an id) is counted, and the others are taken. How many
//! items one page may have is the caller's to say, because each costs memory beside its bytes.

use crate::error::{Error, Peer};
use bytes::Bytes;
use event::{self, AccountId, ConnectionId};
use serde::{
    Deserialize, Deserializer as _,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// What the server sent for one page.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccountsPage {
    /// Items on the page, foreign ones included.
    pub received: u32,
    /// The accounts of the connection that was asked for, each with its own JSON.
    pub accounts: Vec<Account>,
    /// Ids of the others.
    pub foreign: Vec<AccountId>,
    /// Items that are no accounts: `null`, or without an id.
    pub unusable: u32,
}

/// One account: its id, and its JSON exactly as the API sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Raw JSON object: a slice of the page.
    pub json: Bytes,
}

impl fmt::Debug for AccountsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountsPage({} of {} items)", self.accounts.len(), self.received)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.id)
    }
}

/// v3 wraps the list.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    accounts: &'a RawValue,
}

#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    connection_id: Option<&'a RawValue>,
}

/// An id: a text that is not empty, or the digits of an integer of any length.
fn id(json: &RawValue) -> Option<String> {
    let text = json.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    serde_json::from_str::<String>(text).ok().filter(|id| !id.is_empty())
}

impl AccountsPage {
    /// Reads an answer of at most `most` items: a bare array (v2.1) or `{"accounts": [...]}` (v3), whichever it is. Accounts
    /// of other connections are left out: an API that does not know the filter returns every account of the user.
    ///
    /// # Errors
    /// [`Error::Answer`] for everything else; the error quotes nothing of the answer.
    pub fn parse(body: &Bytes, connection: &ConnectionId, most: usize) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|_position| invalid("is not UTF-8"))?;
        if event::is_deeper_in_an_event(body) {
            return Err(invalid("is nested deeper than an event may be"));
        }
        let items = items(text, most).map_err(|error| {
            invalid(format!("is not a list of accounts (line {} column {})", error.line(), error.column()))
        })?;
        let items =
            items.ok_or_else(|| invalid(format!("holds more than {most} items, many more than were asked for")))?;
        let mut page = Self {
            received: u32::try_from(items.len()).unwrap_or(u32::MAX),
            accounts: Vec::with_capacity(items.len()),
            ..Self::default()
        };
        for item in items {
            let account = serde_json::from_str::<Addressed<'_>>(item.get()).ok();
            let Some((account_id, of)) = account.and_then(|account| Some((id(account.id)?, account.connection_id)))
            else {
                page.unusable = page.unusable.saturating_add(1);
                continue;
            };
            // The API was asked for this connection: an account that does not say whose it is belongs to it.
            let is_own = of.and_then(id).is_none_or(|of| of == connection.as_str());
            let id = AccountId::new(account_id);
            if is_own {
                page.accounts.push(Account { id, json: body.slice_ref(item.get().as_bytes()) });
            } else {
                page.foreign.push(id);
            }
        }
        Ok(page)
    }
}

/// The items of a list, wrapped or not; `None` where they are more than `most`.
fn items(text: &str, most: usize) -> Result<Option<Vec<&RawValue>>, serde_json::Error> {
    let list = if text.trim_start().starts_with('{') {
        serde_json::from_str::<Wrapped<'_>>(text)?.accounts.get()
    } else {
        text
    };
    let mut list = serde_json::Deserializer::from_str(list);
    let items = list.deserialize_seq(AtMost(most))?;
    list.end()?;
    Ok(items)
}

/// Takes in so many items; what is beyond is passed over without being kept.
struct AtMost(usize);

impl<'de> Visitor<'de> for AtMost {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of accounts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Some(items)),
            }
        }
        let mut is_over = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            is_over = true;
        }
        Ok((!is_over).then_some(items))
    }
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::answer(Peer::Linxo, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<AccountsPage, Error> {
        AccountsPage::parse(&Bytes::copy_from_slice(body.as_bytes()), &ConnectionId::new("7"), 3)
    }

    #[test]
    fn both_wire_versions_keep_digits_and_unknown_members() {
        for body in [
            r#"[{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}]"#,
            r#"{"accounts":[{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}],"next":null}"#,
        ] {
            let page = parse(body).unwrap();
            assert_eq!(page.received, 1);
            assert_eq!(page.accounts[0].json, r#"{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}"#);
        }
    }

    #[test]
    fn foreign_accounts_are_left_out_and_ids_may_be_integers() {
        let page = parse(r#"[{"id":1,"connection_id":7},{"id":"2","connection_id":"8"},{"id":"3"}]"#).unwrap();
        assert_eq!(page.received, 3);
        let kept: Vec<&str> = page.accounts.iter().map(|account| account.id.as_str()).collect();
        assert_eq!(kept, ["1", "3"]);
    }

    #[test]
    fn what_is_not_a_list_of_accounts_is_an_error() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"[{"id":"1"}"#,
            r#"[{"id":"1"}] 1"#,
            r#"{"accounts":[],"accounts":[]}"#,
            "\u{feff}[]",
            "null",
        ] {
            assert!(parse(body).is_err(), "{body}");
        }
        assert_eq!(parse("[]").unwrap().received, 0);
        let broken = Bytes::from_static(b"[{\"id\":\"\xff\"}]");
        assert!(AccountsPage::parse(&broken, &ConnectionId::new("7"), 3).is_err());
    }

    /// (A8) An item that cannot be used does not stop the others, and integers of any length are ids by their digits.
    #[test]
    fn what_has_an_id_is_taken_and_the_rest_is_counted() {
        for bad in [
            "null",
            "1",
            "[]",
            r#""x""#,
            r#"{"name":"x"}"#,
            r#"{"id":""}"#,
            r#"{"id":null}"#,
            r#"{"id":1.5}"#,
            r#"{"id":{}}"#,
            r#"{"id":"1","id":"2"}"#,
        ] {
            let page = parse(&format!(r#"[{{"id":"1"}},{bad},{{"id":98765432109876543210987654321}}]"#)).unwrap();
            assert_eq!((page.received, page.unusable, page.accounts.len()), (3, 1, 2), "{bad}");
            assert_eq!(page.accounts[1].id.as_str(), "98765432109876543210987654321");
        }
        let page = parse(r#"[{"id":"1","connection_id":{"x":1}},{"id":"2","connection_id":null}]"#).unwrap();
        assert_eq!((page.accounts.len(), page.unusable), (2, 0), "it has an id");
    }

    #[test]
    fn a_page_has_as_many_items_as_are_allowed_and_no_more() {
        for wrap in [|list: &str| list.to_owned(), |list: &str| format!(r#"{{"accounts":{list}}}"#)] {
            assert_eq!(parse(&wrap(r#"[{"id":1},{"id":2},{"id":3}]"#)).unwrap().received, 3);
            let error = parse(&wrap(r#"[{"id":1},{"id":2},{"id":3},{"id":4}]"#)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the answer of the Linxo API holds more than 3 items, many more than were asked for"
            );
            assert!(parse(&wrap(r#"[{"id":1},{"id":2},{"id":3},{"id":4]"#)).is_err());
        }
    }

    #[test]
    fn accounts_are_nested_no_deeper_than_fits_into_an_event() {
        let nested = |levels: usize| format!(r#"[{{"id":1,"x":{}{}}}]"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(parse(&nested(124)).unwrap().received, 1);
        assert!(parse(&nested(125)).unwrap_err().to_string().contains("nested"));
    }
}
