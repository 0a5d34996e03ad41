//! One page of `GET /accounts`, both wire versions (`linxo-api.md` sections 3 and 8).

use super::{Error, Peer};
use crate::event::{AccountId, ConnectionId, wire::Id};
use serde::Deserialize;
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
}

/// One account: its id, and its JSON exactly as the API sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Raw JSON object.
    pub json: Box<str>,
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
    accounts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    id: Id<'a>,
    #[serde(borrow)]
    connection_id: Option<Id<'a>>,
}

impl AccountsPage {
    /// Reads an answer: a bare array (v2.1) or `{"accounts": [...]}` (v3), whichever it is. Accounts of other connections
    /// are left out: an API that does not know the filter returns every account of the user.
    pub(crate) fn parse(body: &[u8], connection: &ConnectionId) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(|_position| invalid("is not UTF-8"))?;
        let wrapped = text.trim_start().starts_with('{');
        let items: Vec<&RawValue> = if wrapped {
            serde_json::from_str::<Wrapped<'_>>(text).map(|wrapped| wrapped.accounts)
        } else {
            serde_json::from_str(text)
        }
        .map_err(|error| {
            invalid(format!("is not a list of accounts (line {} column {})", error.line(), error.column()))
        })?;
        let mut page = Self {
            received: u32::try_from(items.len()).unwrap_or(u32::MAX),
            accounts: Vec::with_capacity(items.len()),
            foreign: Vec::new(),
        };
        for (index, item) in items.into_iter().enumerate() {
            let account: Addressed<'_> = serde_json::from_str(item.get())
                .ok()
                .filter(|account: &Addressed<'_>| !account.id.0.is_empty())
                .ok_or_else(|| invalid(format!("holds an item without an id (number {})", index + 1)))?;
            let id = AccountId::new(account.id.0.into_owned());
            if account.connection_id.is_none_or(|of| of.0 == connection.as_str()) {
                page.accounts.push(Account { id, json: item.get().into() });
            } else {
                page.foreign.push(id);
            }
        }
        Ok(page)
    }
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::answer(Peer::Linxo, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<AccountsPage, Error> {
        AccountsPage::parse(body.as_bytes(), &ConnectionId::new("7"))
    }

    #[test]
    fn both_wire_versions_keep_digits_and_unknown_members() {
        for body in [
            r#"[{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}]"#,
            r#"{"accounts":[{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}],"next":null}"#,
        ] {
            let page = parse(body).unwrap();
            assert_eq!(page.received, 1);
            assert_eq!(
                &*page.accounts[0].json,
                r#"{"id":"1","connection_id":"7","balance":10000.10,"later":{"a":[1]}}"#
            );
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
        for body in
            ["", "<html>", "{}", "[1]", r#"[{"name":"x"}]"#, r#"[{"id":""}]"#, r#"[{"id":"1"}"#, "\u{feff}[]", "null"]
        {
            assert!(parse(body).is_err(), "{body}");
        }
        assert_eq!(parse("[]").unwrap().received, 0);
    }
}
