//! Events, pages and outcomes that the cases use.

use base::clock::{self, Timestamp};
use bytes::Bytes;
use event::{AccountId, Event};
use inbox::{Cause, Certainty, CredentialsMark, Found, NewEntry, Outcome, Page};

/// An event's JSON: of a connection, with an id, with a number of accounts listed or only announced.
pub(crate) fn event(id: &str, connection: &str, accounts: usize, truncated: bool) -> String {
    let listed = if truncated { 0 } else { accounts };
    let list: Vec<String> = (0..listed).map(|n| format!(r#"{{"id":"{n}","balance":{n}.10}}"#)).collect();
    format!(
        r#"{{"id":"{id}","event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":1700000005,
            "channel_definition_id":"5","resource":{{"id":"{connection}","user_id":"u{connection}",
            "channels":[{{"channel_definition_id":"5","mode":"REDIRECT","status":"SUCCESS"}}],
            "account_count":{accounts},"accounts":[{}]}}}}"#,
        list.join(",")
    )
}

/// An entry ready to be accepted.
pub(crate) fn new_entry(json: &str) -> NewEntry {
    NewEntry {
        event: Event::parse(json.as_bytes()).unwrap(),
        body: Bytes::copy_from_slice(json.as_bytes()),
        received: clock::now(),
        confirm: false,
        sender: Some(r#"{"peer":"127.0.0.1"}"#.to_owned()),
        trace: None,
    }
}

/// A page with one account, whose id is the page's number.
pub(crate) fn page(number: u32) -> Page {
    Page {
        number,
        ids: vec![AccountId::new(number.to_string())],
        accounts: format!(r#"{{"id":"{number}"}}"#).into(),
        received: 1,
        ..Page::default()
    }
}

/// So many accounts, read until two passes agreed.
pub(crate) const fn found(accounts: u64) -> Found {
    Found { accounts, unusable: 0, certainty: Certainty::Agreed }
}

/// The other side refused it.
pub(crate) fn park(reason: &str) -> Outcome {
    Outcome::Park { cause: Cause::Refused, reason: reason.to_owned() }
}

/// It waits for other credentials than those that this mark stands for.
pub(crate) fn park_for_credentials(mark: &str) -> Outcome {
    let cause = Cause::Credentials(CredentialsMark::new(mark));
    Outcome::Park { cause, reason: "the API refused the token".to_owned() }
}

/// It failed, and may be tried again at once.
pub(crate) fn retry(reason: &str, is_doubtful: bool) -> Outcome {
    Outcome::Retry { due: Timestamp::from_millis(0), reason: reason.to_owned(), is_doubtful }
}
