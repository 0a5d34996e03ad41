//! What the double's bank knows: connections, their users, and accounts that can come and go.
//!
//! In: which connections exist and how many accounts each has. Out: JSON text in either wire version. Account ids and
//! contents follow from the connection's id and a number alone, so two runs agree. Amounts are written as text: the
//! digits (`0.10`, `10000.00`, more digits than a double holds) are the point.
//!
//! Not here: paging and who may ask, which is `routes`. Shapes: `docs/linxo-api.md` sections 4 and 8.

use crate::wire::ApiVersion;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Stands in every name, number and IBAN that the double makes up, so that a test can look for leaks of personal data.
pub const CANARY: &str = "CANARY";

/// Balances in turn; the digits must leave the service as they came.
const BALANCES: [&str; 12] = [
    "1234.56",
    "10000",
    "-4",
    "0.10",
    "-79.99",
    "0",
    "9007199254740993.01",
    "-152340.1",
    "2441.46",
    "760.1",
    "10000.00",
    "0.30000000000000004",
];

/// Labels in turn: type, name, further members.
const PRODUCTS: [(&str, &str, &str); 5] = [
    ("CHECKINGS", "Compte chèque", ""),
    ("SAVINGS", "Livret A", r#","savings":{"type":"LIVA","savings_type":"LIQUID","yield_rate":0.50}"#),
    (
        "CREDIT_CARD",
        "Carte à débit différé",
        r#","credit_card":{"next_payment":{"amount":-812.50,"due_date":1701385200}}"#,
    ),
    (
        "LOAN",
        "Prêt immobilier",
        r#","loan":{"initial_balance":200000,"interest":1.45,"start_date":1600000000,"end_date":2231000000}"#,
    ),
    ("CHECKINGS", "Compte joint «\u{a0}été\u{a0}» \\u20ac", ""),
];

/// A bank connection of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Digits, as the vendor's ids are.
    pub id: String,
    /// The user it belongs to.
    pub user: String,
    /// Accounts at the start.
    pub accounts: usize,
}

impl Connection {
    /// The connection of the vendor's documented example, with the 102 accounts that its second event announces.
    #[must_use]
    pub fn documented() -> Self {
        Self { id: "123".to_owned(), user: "321".to_owned(), accounts: 102 }
    }

    /// The connection with this number, each with a user of its own: `700000` of user `300000`, and so on.
    #[must_use]
    pub fn numbered(number: u64, accounts: usize) -> Self {
        Self {
            id: 700_000_u64.saturating_add(number).to_string(),
            user: 300_000_u64.saturating_add(number).to_string(),
            accounts,
        }
    }
}

/// One account, by the connection's id and its number there, as JSON.
#[must_use]
pub fn account_json(connection: &str, number: u64, version: ApiVersion, integer_ids: bool) -> String {
    let turn = usize::try_from(number).unwrap_or(0);
    let balance = BALANCES.get(turn % BALANCES.len()).copied().unwrap_or("0");
    let (kind, label, further) = PRODUCTS.get(turn % PRODUCTS.len()).copied().unwrap_or(("CHECKINGS", "Compte", ""));
    let mut json = format!(
        r#"{{"id":{},"connection_id":{}"#,
        id_json(&account_id(connection, number), integer_ids),
        id_json(connection, integer_ids),
    );
    // In production the name is missing at times (`docs/linxo-api.md` section 4).
    if number % 17 != 16 {
        push(&mut json, format_args!(r#","name":"{label} {CANARY} {number}""#));
    }
    match version {
        ApiVersion::V2_1 => push(
            &mut json,
            format_args!(
                r#","currency":"EUR","balance":{balance},"balance_date":{},"creation_date":1286641717"#,
                1_700_000_000 + number
            ),
        ),
        ApiVersion::V3 => push(
            &mut json,
            format_args!(
                r#","balance":{{"amount":{{"amount":"{balance}","currency":"EUR"}}}},"creation_date":"2010-10-09T18:28:37+02:00""#
            ),
        ),
    }
    push(
        &mut json,
        format_args!(
            r#","iban":"FR7699999{CANARY}{number:014}","status":"ACTIVE","type":"{kind}","account_number":"{CANARY}{number:011}","owner":{{"name":"MME ZOE {CANARY}"}},"usage":"PERSONAL","last_channel_definition_id":"24601","x_of_the_future":{{"list":[1,2.50,null],"text":"é"}}{further}}}"#
        ),
    );
    json
}

/// The id of a connection's account with this number.
#[must_use]
pub fn account_id(connection: &str, number: u64) -> String {
    format!("{connection}{:05}", number.saturating_add(1))
}

/// One connection as `GET /connections/{id}` gives it, without closing what an event adds: `user_id` is last.
#[must_use]
pub(crate) fn connection_json(id: &str, user: &str, first_channel: &str, second_channel: &str, status: &str) -> String {
    format!(
        r#"{{"id":"{id}","provider_id":"246","name":"Caisse d'Epargne","status":"{status}","creation_date":1286641695,"auto_sync":true,"logo_url":"https://static.oxlin.io/common/pictures/providers_logos/246.png","channels":[{{"channel_definition_id":"24600","mode":"EMBEDDED","status":"{second_channel}","last_success_date":1607106094,"last_end_date":1607106094,"credentials":[{{"id":"2460000","masked_value":"*****{CANARY}"}}],"account_types":["CHECKINGS","SAVINGS","LOAN","CREDIT_CARD"],"channel_definition_unavailable":false}},{{"channel_definition_id":"24601","mode":"REDIRECT","expires":1609943012,"status":"{first_channel}","last_success_date":1607106070,"last_end_date":1607106070,"credentials":[],"account_types":["CHECKINGS","CREDIT_CARD"],"channel_definition_unavailable":false}}],"owner":{{"name":"M JEAN {CANARY}"}},"consent_per_account":false,"user_id":"{user}"}}"#
    )
}

/// Every connection with the accounts that it has right now.
#[derive(Debug)]
pub(crate) struct World {
    listings: BTreeMap<String, Listing>,
}

#[derive(Debug)]
struct Listing {
    user: String,
    /// Numbers of the accounts that exist, in the order in which they are listed: newest first, as recorded.
    present: Vec<u64>,
    /// Number of the next new account.
    next: u64,
    /// Those that existed throughout.
    throughout: BTreeSet<u64>,
}

impl World {
    pub(crate) fn new(connections: &[Connection]) -> Self {
        let listings = connections
            .iter()
            .map(|connection| {
                let count = u64::try_from(connection.accounts).unwrap_or(u64::MAX);
                let listing = Listing {
                    user: connection.user.clone(),
                    present: (0..count).rev().collect(),
                    next: count,
                    throughout: (0..count).collect(),
                };
                (connection.id.clone(), listing)
            })
            .collect();
        Self { listings }
    }

    pub(crate) fn put(&mut self, connection: &Connection) {
        self.listings.append(&mut Self::new(std::slice::from_ref(connection)).listings);
    }

    pub(crate) fn remove(&mut self, connection: &str) {
        self.listings.remove(connection);
    }

    pub(crate) fn owner(&self, connection: &str) -> Option<&str> {
        self.listings.get(connection).map(|listing| listing.user.as_str())
    }

    pub(crate) fn connections_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a str> {
        self.listings.iter().filter(move |(_, listing)| listing.user == user).map(|(id, _)| id.as_str())
    }

    /// Accounts listed now: connection and number, in the order of the listing.
    pub(crate) fn accounts<'a>(&'a self, user: &'a str, connection: Option<&'a str>) -> Vec<(&'a str, u64)> {
        self.listings
            .iter()
            .filter(|(id, listing)| listing.user == user && connection.is_none_or(|only| only == id.as_str()))
            .flat_map(|(id, listing)| listing.present.iter().map(|number| (id.as_str(), *number)))
            .collect()
    }

    pub(crate) fn ids(&self, connection: &str) -> Vec<String> {
        let present = self.listings.get(connection).map(|listing| listing.present.as_slice()).unwrap_or_default();
        present.iter().map(|number| account_id(connection, *number)).collect()
    }

    pub(crate) fn ids_throughout(&self, connection: &str) -> Vec<String> {
        let listing = self.listings.get(connection);
        listing
            .into_iter()
            .flat_map(|listing| &listing.throughout)
            .map(|number| account_id(connection, *number))
            .collect()
    }

    /// Adds and takes away accounts at random places of one connection, or of all.
    pub(crate) fn change(&mut self, connection: Option<&str>, insert: u32, remove: u32, rng: &mut fastrand::Rng) {
        for (id, listing) in &mut self.listings {
            if connection.is_some_and(|only| only != id) {
                continue;
            }
            for _ in 0..remove {
                if !listing.present.is_empty() {
                    let gone = listing.present.remove(rng.usize(..listing.present.len()));
                    listing.throughout.remove(&gone);
                }
            }
            for _ in 0..insert {
                listing.present.insert(rng.usize(..=listing.present.len()), listing.next);
                listing.next = listing.next.saturating_add(1);
            }
        }
    }
}

fn id_json(id: &str, integer: bool) -> String {
    match id.parse::<u64>() {
        Ok(number) if integer => number.to_string(),
        _ => format!("\"{id}\""),
    }
}

fn push(json: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    json.write_fmt(part).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::wire;

    #[test]
    fn every_account_is_typed_and_keeps_its_digits() {
        for version in [ApiVersion::V2_1, ApiVersion::V3] {
            for integer_ids in [false, true] {
                for number in 0..60 {
                    let json = account_json("123", number, version, integer_ids);
                    let account: wire::Account<'_> =
                        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
                    assert_eq!(account.id.0, account_id("123", number));
                    assert!(json.contains(BALANCES[usize::try_from(number).unwrap() % BALANCES.len()]));
                    assert!(json.contains(CANARY));
                }
            }
        }
    }

    #[test]
    fn change_remembers_who_stayed() {
        let mut world = World::new(&[Connection { accounts: 10, ..Connection::documented() }]);
        let before: BTreeSet<_> = world.ids("123").into_iter().collect();
        world.change(None, 2, 3, &mut fastrand::Rng::with_seed(1));
        let after: BTreeSet<_> = world.ids("123").into_iter().collect();
        assert_eq!(after.len(), 9);
        let stayed: BTreeSet<_> = world.ids_throughout("123").into_iter().collect();
        assert_eq!(stayed, before.intersection(&after).cloned().collect());
    }
}
