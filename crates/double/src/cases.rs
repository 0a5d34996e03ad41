//! Named cases for whoever writes the other end: a few events each, and what a consumer learns from them.
//!
//! In: the name of a case, and a text that makes its ids distinct from those of earlier runs. Out: the bodies to post, in their
//! order. Each case tells of a connection of its own, which the double's API must know where it completes an event:
//! [`connections`] has them all. What each case holds is said by the tests below.
//!
//! Shapes and statuses: `docs/linxo-api.md` sections 4 and 6. What the vendor's page does not show, such as a failed channel, is
//! made of the statuses that it lists.

use crate::{
    accounts::Connection,
    events::{Channel, DOCUMENTED_TRUNCATED, DOCUMENTED_WHOLE, Plan, event},
};
use base::clock;

/// The number of the first case's connection; that of the next case is one higher.
const FIRST: u64 = 10_000;
const DAY: i64 = 24 * 60 * 60;

/// A named case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called on a command line.
    pub name: &'static str,
    /// What a consumer learns from it, in one sentence.
    pub lesson: &'static str,
    /// Accounts of its connection in the API; `None`: the API does not know the connection.
    accounts: Option<usize>,
    make: fn(&Scene) -> Vec<Vec<u8>>,
}

/// What the events of one run of a case speak of.
struct Scene {
    run: String,
    connection: Connection,
    now: i64,
}

/// Every case, the usual ones first.
pub const CASES: [Case; 17] = [
    Case {
        name: "new-transactions",
        lesson: "the usual event: two accounts are listed, and there are new transactions, which you fetch from the API",
        accounts: Some(2),
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "nothing-new",
        lesson: "new_transactions is false: balances and statuses may have changed all the same",
        accounts: Some(2),
        make: |scene| vec![event(&Plan { new_transactions: false, ..scene.plan(1) })],
    },
    Case {
        name: "two-channels",
        lesson: "one synchronisation, two events: the connection still runs in the first, and both list all of its accounts",
        accounts: Some(3),
        make: |scene| vec![event(&Plan { channel: Channel::FirstOfTwo, ..scene.plan(1) }), event(&scene.plan(2))],
    },
    Case {
        name: "truncated",
        lesson: "150 accounts are announced and none is listed: you are given all of them, and linxocompletion is api",
        accounts: Some(150),
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "large",
        lesson: "3000 accounts: the body has more than a megabyte, so raise the limit of your server and of your proxy",
        accounts: Some(3000),
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "no-accounts",
        lesson: "account_count is 0: the empty list is complete, and the accounts that you have of this connection are gone",
        accounts: Some(0),
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "account-closed",
        lesson: "an account is CLOSED in the first event and not listed in the second: nobody announces a deletion",
        accounts: Some(3),
        make: |scene| {
            let closed = edited(&scene.event(), &[(r#""status":"ACTIVE""#, r#""status":"CLOSED""#)]);
            let mut after = scene.plan(2);
            after.connection.accounts = 2;
            vec![closed, event(&after)]
        },
    },
    Case {
        name: "consent-expiring",
        lesson: "the consent of the REDIRECT channel expires in three days: ask the user to renew it before then",
        accounts: Some(2),
        make: |scene| {
            let expires = format!(r#""expires":{}"#, scene.now.saturating_add(3 * DAY));
            vec![edited(&scene.event(), &[OF_REDIRECT, (EXPIRES, &expires)])]
        },
    },
    Case {
        name: "action-needed",
        lesson: "a failed synchronisation is an event too: the channel is TOKEN_EXPIRED, and the balances are old",
        accounts: Some(2),
        make: |scene| {
            let expired = format!(r#""expires":{},"status":"TOKEN_EXPIRED""#, scene.now.saturating_sub(DAY));
            let expires = format!(r#"{EXPIRES},"status":"SUCCESS""#);
            let failed = (r#"Epargne","status":"SUCCESS""#, r#"Epargne","status":"FAILED""#);
            let whole = event(&Plan { new_transactions: false, ..scene.plan(1) });
            vec![edited(&whole, &[OF_REDIRECT, (&expires, &expired), failed])]
        },
    },
    Case {
        name: "duplicate",
        lesson: "the same event comes twice: it is stored once and delivered once",
        accounts: Some(2),
        make: |scene| vec![scene.event(); 2],
    },
    Case {
        name: "same-id-other-content",
        lesson: "the two events of the vendor's page share their id: both are delivered, under webhook-ids of their own",
        accounts: Some(102),
        make: |scene| {
            let id = serde_json::Value::from(scene.run.as_str()).to_string();
            let (connection, user) = (scene.connection_id(), scene.user_id());
            let edits =
                [(r#""abc123456""#, id.as_str()), (r#""123""#, connection.as_str()), (r#""321""#, user.as_str())];
            let own = |documented| edited(documented, &edits);
            vec![own(DOCUMENTED_WHOLE), own(DOCUMENTED_TRUNCATED)]
        },
    },
    Case {
        name: "amounts",
        lesson: "balances such as 0.30000000000000004 and 10000.00: read them as decimals, a binary float changes them",
        accounts: Some(12),
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "mismatch",
        lesson: "one account more is announced than the API has: linxomismatch is true, so delete nothing because of this list",
        accounts: Some(150),
        make: |scene| {
            let mut plan = scene.plan(1);
            plan.connection.accounts += 1;
            vec![event(&plan)]
        },
    },
    Case {
        name: "gone",
        lesson: "the API does not know the connection any more: linxocompletion is gone, and no account is listed",
        accounts: None,
        make: |scene| vec![scene.event()],
    },
    Case {
        name: "unknown-type",
        lesson: "a kind of event that does not exist today: take it with 2xx and do nothing",
        accounts: Some(2),
        make: |scene| {
            let (run, now, user) = (serde_json::Value::from(scene.run.as_str()), scene.now, scene.user_id());
            vec![format!(r#"{{"id":{run},"event_type":"CREATED","resource_type":"TRANSACTIONS","creation_date":{now},"resource":{{"id":"5550001","user_id":{user},"amount":-79.99}}}}"#).into_bytes()]
        },
    },
    Case {
        name: "unknown-members",
        lesson: "a new mode, a new type of account, a new member, an id as a number: enumerations and shapes grow",
        accounts: Some(2),
        make: |scene| {
            let id = scene.connection_id();
            let (text, number) =
                (format!(r#""resource":{{"id":{id}"#), format!(r#""resource":{{"id":{}"#, id.trim_matches('"')));
            vec![edited(
                &scene.event(),
                &[
                    (&text, &number),
                    (r#""mode":"EMBEDDED""#, r#""mode":"OPEN_FINANCE""#),
                    (r#""type":"CHECKINGS""#, r#""type":"CRYPTO""#),
                    (r#""auto_sync":true"#, r#""auto_sync":true,"risk":{"score":0.70}"#),
                ],
            )]
        },
    },
    Case {
        name: "minimal",
        lesson: "the three members of a resource that the vendor's table names, and the flag at the top: nothing else is certain",
        accounts: Some(2),
        make: |scene| {
            let (run, now) = (serde_json::Value::from(scene.run.as_str()), scene.now);
            let (connection, user) = (scene.connection_id(), scene.user_id());
            vec![format!(r#"{{"id":{run},"event_type":"UPDATED","resource_type":"CONNECTIONS","creation_date":{now},"channel_definition_id":"24600","resource":{{"id":{connection},"user_id":{user},"status":"SUCCESS"}},"new_transactions":true}}"#).into_bytes()]
        },
    },
];

/// Makes an event tell of the REDIRECT channel instead of the other one.
const OF_REDIRECT: (&str, &str) =
    (r#""channel_definition_id":"24600","resource""#, r#""channel_definition_id":"24601","resource""#);
/// The end of the consent in made-up connections.
const EXPIRES: &str = r#""expires":1609943012"#;

impl Case {
    /// The case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// The bodies to post, in their order; `run` makes their ids distinct from those of earlier runs.
    #[must_use]
    pub fn posts(&self, run: &str) -> Vec<Vec<u8>> {
        let now = clock::now().as_seconds();
        (self.make)(&Scene { run: run.to_owned(), connection: self.connection(), now })
    }

    /// Its connection, with the accounts that events announce unless the case says otherwise.
    fn connection(&self) -> Connection {
        let place = CASES.iter().zip(FIRST..).find(|(case, _)| case.name == self.name);
        // What the API does not know is announced as what it would have to fetch.
        Connection::numbered(place.map_or(FIRST, |(_, number)| number), self.accounts.unwrap_or(150))
    }
}

/// The connections that the API must know, so that the events of all cases can be completed.
pub fn connections() -> impl Iterator<Item = Connection> {
    CASES.iter().filter(|case| case.accounts.is_some()).map(Case::connection)
}

impl Scene {
    fn plan(&self, number: u32) -> Plan {
        Plan::new(format!("{}-{number}", self.run), self.connection.clone())
    }

    /// The usual event of this connection.
    fn event(&self) -> Vec<u8> {
        event(&self.plan(1))
    }

    /// As JSON.
    fn connection_id(&self) -> String {
        format!("\"{}\"", self.connection.id)
    }

    /// As JSON.
    fn user_id(&self) -> String {
        format!("\"{}\"", self.connection.user)
    }
}

/// The text with the first place of each replaced.
fn edited(json: &[u8], edits: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(json).into_owned();
    for (from, to) in edits {
        debug_assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn posts(name: &str) -> Vec<Value> {
        let posts = Case::named(name).unwrap().posts("run");
        posts.iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    fn one(name: &str) -> Value {
        let [event] = <[Value; 1]>::try_from(posts(name)).unwrap();
        event
    }

    fn two(name: &str) -> [Value; 2] {
        posts(name).try_into().unwrap()
    }

    fn listed(event: &Value) -> usize {
        event["resource"]["accounts"].as_array().unwrap().len()
    }

    fn channel<'a>(event: &'a Value, id: &str) -> &'a Value {
        let channels = event["resource"]["channels"].as_array().unwrap();
        channels.iter().find(|channel| channel["channel_definition_id"] == id).unwrap()
    }

    fn text(name: &str) -> String {
        String::from_utf8(Case::named(name).unwrap().posts("run").remove(0)).unwrap()
    }

    #[test]
    fn every_case_makes_events_that_are_taken_and_are_its_own() {
        let (mut names, mut connections) = (BTreeSet::new(), BTreeSet::new());
        for case in CASES {
            let posts = case.posts("a \"run\"");
            assert!(!posts.is_empty());
            for body in &posts {
                let event = event::Event::parse(body).unwrap_or_else(|error| panic!("{}: {error}", case.name));
                assert!(event.id.as_str().starts_with("a \"run\""), "{}: {}", case.name, event.id);
            }
            assert_ne!(posts, case.posts("another"), "{}", case.name);
            assert!(names.insert(case.name) && connections.insert(case.connection().id), "{}", case.name);
            assert!(!case.lesson.ends_with('.') && case.lesson.len() < 120, "{}", case.lesson);
        }
        assert!(Case::named("no-such-case").is_none());
    }

    #[test]
    fn the_api_must_know_every_connection_but_the_one_that_is_gone() {
        let known: BTreeSet<String> = connections().map(|connection| connection.id).collect();
        assert_eq!(known.len(), CASES.len() - 1);
        assert!(!known.contains(&Case::named("gone").unwrap().connection().id));
        let of =
            |name: &str| connections().find(|known| known.id == Case::named(name).unwrap().connection().id).unwrap();
        for name in ["truncated", "large", "no-accounts", "amounts"] {
            assert_eq!(one(name)["resource"]["account_count"], of(name).accounts, "{name}");
        }
        assert_eq!(one("mismatch")["resource"]["account_count"], of("mismatch").accounts + 1);
        assert_eq!(two("same-id-other-content")[1]["resource"]["account_count"], of("same-id-other-content").accounts);
    }

    #[test]
    fn the_usual_event_says_that_there_are_new_transactions() {
        let event = one("new-transactions");
        assert_eq!((listed(&event), &event["connection_updated"]["new_transactions"]), (2, &Value::Bool(true)));
        assert_eq!(one("nothing-new")["connection_updated"]["new_transactions"], false);
    }

    #[test]
    fn two_channels_make_two_events_of_one_connection() {
        let [first, last] = two("two-channels");
        assert_eq!(first["resource"]["id"], last["resource"]["id"]);
        assert_ne!(first["id"], last["id"]);
        assert_eq!([&first, &last].map(|event| event["channel_definition_id"].as_str().unwrap()), ["24601", "24600"]);
        assert_eq!([&first, &last].map(|event| event["resource"]["status"].as_str().unwrap()), ["RUNNING", "SUCCESS"]);
        assert_eq!([&first, &last].map(listed), [3, 3]);
    }

    #[test]
    fn what_leaves_out_its_accounts_announces_them() {
        for (name, announced) in [("truncated", 150), ("large", 3000), ("mismatch", 151), ("gone", 150)] {
            let event = one(name);
            assert_eq!((&event["resource"]["account_count"], listed(&event)), (&Value::from(announced), 0), "{name}");
        }
        let event = one("no-accounts");
        assert_eq!((&event["resource"]["account_count"], listed(&event)), (&Value::from(0), 0));
    }

    #[test]
    fn a_closed_account_is_said_to_be_closed_and_then_missing() {
        let [closed, after] = two("account-closed");
        let of = |event: &Value, status: &str| {
            let accounts = event["resource"]["accounts"].as_array().unwrap();
            let found = accounts.iter().filter(|account| account["status"] == status);
            found.map(|account| account["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!((of(&closed, "ACTIVE").len(), of(&closed, "CLOSED").len()), (2, 1));
        assert_eq!(of(&after, "ACTIVE"), of(&closed, "ACTIVE"));
        assert_eq!((listed(&after), &after["resource"]["account_count"]), (2, &Value::from(2)));
    }

    #[test]
    fn consents_end_soon_or_have_ended() {
        let now = clock::now().as_seconds();
        let event = one("consent-expiring");
        let redirect = channel(&event, "24601");
        assert_eq!((&event["channel_definition_id"], &redirect["status"]), (&"24601".into(), &"SUCCESS".into()));
        assert!((now + 2 * DAY..now + 4 * DAY).contains(&redirect["expires"].as_i64().unwrap()));
        let event = one("action-needed");
        let redirect = channel(&event, "24601");
        assert_eq!((&redirect["mode"], &redirect["status"]), (&"REDIRECT".into(), &"TOKEN_EXPIRED".into()));
        assert!(redirect["expires"].as_i64().unwrap() < now);
        assert_eq!(
            (&event["resource"]["status"], &event["channel_definition_id"]),
            (&"FAILED".into(), &"24601".into())
        );
        assert_eq!(event["connection_updated"]["new_transactions"], false);
    }

    #[test]
    fn a_repeat_is_the_very_same_and_a_conflict_is_not() {
        let repeat = Case::named("duplicate").unwrap().posts("run");
        assert_eq!((repeat.len(), &repeat[0]), (2, &repeat[1]));
        let [whole, truncated] = two("same-id-other-content");
        assert_eq!((&whole["id"], listed(&whole), listed(&truncated)), (&truncated["id"], 2, 0));
        assert_eq!(whole["resource"]["id"], truncated["resource"]["id"]);
    }

    #[test]
    fn amounts_have_digits_that_a_float_would_lose() {
        let text = text("amounts");
        for digits in ["0.30000000000000004,", "9007199254740993.01,", "10000.00,", "0.10,"] {
            assert!(text.contains(&format!("\"balance\":{digits}")), "{digits}");
        }
    }

    #[test]
    fn what_is_unknown_today_is_kept_apart_from_what_is_wrong() {
        let event = one("unknown-type");
        assert_eq!((&event["event_type"], &event["resource_type"]), (&"CREATED".into(), &"TRANSACTIONS".into()));
        let event = one("unknown-members");
        assert!(event["resource"]["id"].is_u64() && event["resource"]["risk"].is_object());
        assert_eq!(channel(&event, "24600")["mode"], "OPEN_FINANCE");
        assert_eq!(event["resource"]["accounts"][1]["type"], "CRYPTO");
        let event = one("minimal");
        let members: Vec<&String> = event["resource"].as_object().unwrap().keys().collect();
        assert_eq!(members, ["id", "status", "user_id"]);
        assert_eq!(event["new_transactions"], true);
    }
}
