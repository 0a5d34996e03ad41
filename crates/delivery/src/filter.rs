//! Which events a sink is given: `[sink.filter]`, and the decision. Pure.
//!
//! In: what is [`Told`] of an event. Out: the key that leaves it out, or none. What an event does not tell leaves nothing out: a
//! filter must never lose an event because the vendor left a member away.

use ::settings::{At, Flaw, Read, flag, one_of, section, texts};

/// Statuses of a connection that the vendor documents.
const STATUSES: [&str; 6] = ["RUNNING", "SUCCESS", "PARTIAL_SUCCESS", "FAILED", "CLOSED", "NONE"];
/// Modes of a channel that the vendor documents.
const MODES: [&str; 2] = ["EMBEDDED", "REDIRECT"];

section! {
    /// Which events the sink is given: those that fit every key here. An event that does not say what a key asks for fits that key.
    /// What does not fit is done for this sink without a delivery, and the entry says which key left it out.
    pub struct Filter {
        /// Statuses of the connection (`resource.status`): RUNNING, SUCCESS, PARTIAL_SUCCESS, FAILED, CLOSED, NONE.
        pub status: Vec<&'static str> = texts(|text| one_of(text, &STATUSES)).example("[\"FAILED\", \"CLOSED\"]"),
        /// Modes of the channel whose synchronisation ended: EMBEDDED, REDIRECT.
        pub mode: Vec<&'static str> = texts(|text| one_of(text, &MODES)).example("[\"REDIRECT\"]"),
        /// Banks (`resource.provider_id`).
        pub provider: Vec<String> = texts(id).example("[\"246\"]"),
        /// Users (`resource.user_id`).
        pub user: Vec<String> = texts(id).example("[\"321\"]"),
        /// Whether the synchronisation brought new transactions.
        pub new_transactions: Option<bool> = flag().example("true").optional(),
    }
    check(at) {
        never_empty(at, "status", &status);
        never_empty(at, "mode", &mode);
        never_empty(at, "provider", &provider);
        never_empty(at, "user", &user);
    }
}

/// A list that is given and names nothing would leave out every event.
fn never_empty<T>(at: &mut At<'_, '_>, name: &str, list: &Read<Vec<T>>) {
    if at.is_given(name) && list.as_ref().is_ok_and(Vec::is_empty) {
        at.flawed(
            name,
            Flaw::new("is an empty list, which no event fits", "name what the sink is given, or remove the key"),
        );
    }
}

fn id(text: &str) -> Result<String, Flaw> {
    if text.is_empty() { Err(Flaw::new("is empty", "write the id as events have it")) } else { Ok(text.to_owned()) }
}

/// What an event tells that a filter may ask for; `None`: it does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Status of the connection.
    pub status: Option<&'a str>,
    /// Mode of the channel whose synchronisation ended.
    pub mode: Option<&'a str>,
    /// The bank.
    pub provider: Option<&'a str>,
    /// The user.
    pub user: Option<&'a str>,
    /// Whether there are new transactions.
    pub new_transactions: Option<bool>,
}

impl Filter {
    /// The key that leaves an event out; `None`: the sink is given the event.
    #[must_use]
    pub fn leaves_out(&self, told: &Told<'_>) -> Option<&'static str> {
        fn fits<T: AsRef<str>>(list: &[T], told: Option<&str>) -> bool {
            list.is_empty() || told.is_none_or(|told| list.iter().any(|one| one.as_ref() == told))
        }
        let wanted = self.new_transactions;
        [
            ("status", fits(&self.status, told.status)),
            ("mode", fits(&self.mode, told.mode)),
            ("provider", fits(&self.provider, told.provider)),
            ("user", fits(&self.user, told.user)),
            ("new_transactions", wanted.is_none() || told.new_transactions.is_none_or(|told| Some(told) == wanted)),
        ]
        .into_iter()
        .find_map(|(key, fits)| (!fits).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told<'_> = Told {
        status: Some("FAILED"),
        mode: Some("REDIRECT"),
        provider: Some("12"),
        user: Some("u1"),
        new_transactions: Some(false),
    };

    fn filter() -> Filter {
        Filter { status: vec![], mode: vec![], provider: vec![], user: vec![], new_transactions: None }
    }

    #[test]
    fn every_key_must_fit_and_the_first_that_does_not_is_named() {
        assert_eq!(filter().leaves_out(&TOLD), None);
        let all = Filter {
            status: vec!["SUCCESS", "FAILED"],
            mode: vec!["REDIRECT"],
            provider: vec!["12".to_owned()],
            user: vec!["u2".to_owned(), "u1".to_owned()],
            new_transactions: Some(false),
        };
        assert_eq!(all.leaves_out(&TOLD), None);
        for (filter, key) in [
            (Filter { status: vec!["SUCCESS"], mode: vec!["EMBEDDED"], ..all.clone() }, "status"),
            (Filter { mode: vec!["EMBEDDED"], ..all.clone() }, "mode"),
            (Filter { provider: vec!["1".to_owned()], ..all.clone() }, "provider"),
            (Filter { user: vec!["U1".to_owned()], ..all.clone() }, "user"),
            (Filter { new_transactions: Some(true), ..all }, "new_transactions"),
        ] {
            assert_eq!(filter.leaves_out(&TOLD), Some(key));
            assert_eq!(filter.leaves_out(&Told::default()), None, "what is not told leaves nothing out");
        }
    }

    /// A status that the vendor adds later is one that the list does not name.
    #[test]
    fn a_word_that_nobody_knows_is_left_out_like_any_other() {
        let filter = Filter { status: vec!["SUCCESS"], ..filter() };
        assert_eq!(filter.leaves_out(&Told { status: Some("NEW_WORD"), ..TOLD }), Some("status"));
    }
}
