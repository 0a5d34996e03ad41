//! Whether a store and the journal beside it belong together: both have noted one number.
//!
//! | the store | the journal | what it means | what is done |
//! | --- | --- | --- | --- |
//! | the same number | the same number | the usual case | nothing |
//! | none | nothing is there | both are new | both get a number |
//! | none | an identity, no number | both are from before numbers | both get a number |
//! | a number | nothing is there | the journal is missing, perhaps its disk is not mounted | that is said, and both get a new number |
//! | a number, or none | another number, or none | the journal comes back, or the store is an older copy | the store folds all of the journal once more |
//!
//! Positions count on from what the store has. So those that a journal had while it was missing were given away again, and "the
//! store has reached this position" says nothing of its records. To fold them once more loses nothing and stores nothing twice:
//! what the store has already is recognised by its content.

use crate::{
    Error, Position,
    journal::{self, Journal},
    sqlite::{Sqlite, go_on_from, number, set_number},
};
use std::path::Path;

/// The name of the number in the store.
const PAIR: &str = "journal";

/// What is known before a journal is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairing {
    /// How far the store has folded this journal.
    pub(super) reached: Position,
    /// Both have this number already.
    is_noted: bool,
}

/// Looks at both numbers, and makes the store fold a journal once more that is not the one that it folded last.
pub(super) fn look(store: &Sqlite, folder: &Path) -> Result<Pairing, Error> {
    let reached = store.reached_when_opened();
    let path = store.path();
    let known = number(path, PAIR)?;
    let (found, identity) = (journal::pair(folder), journal::identity(folder));
    if known == found && known.is_some() {
        return Ok(Pairing { reached, is_noted: true });
    }
    if identity.is_none() {
        if known.is_some() {
            tracing::warn!(
                code = "journal_missing",
                path = %folder.display(),
                "the journal that this inbox used last is not there, and a new one begins: if its disk is not mounted, mount it and start again; the events that are in it alone are added then"
            );
        }
        return Ok(Pairing { reached, is_noted: false });
    }
    if identity != Some(store.keys().identity.0) || (known.is_none() && found.is_none()) {
        // Another inbox's is refused when it is opened.
        return Ok(Pairing { reached, is_noted: false });
    }
    let held = journal::verify(folder, store.keys().identity.0, 0);
    let first = held.ok().and_then(|held| held.first).map_or(reached, |first| Position(first.saturating_sub(1)));
    let again = first.min(reached);
    if again < reached {
        tracing::warn!(
            code = "journal_returned",
            path = %folder.display(),
            "this is not the journal that the inbox used last: its events are compared with the inbox, and those that are missing there are added"
        );
        go_on_from(path, again)?;
    }
    Ok(Pairing { reached: again, is_noted: false })
}

/// Notes one number in both.
pub(super) fn note(store: &Sqlite, journal: &Journal, pairing: Pairing) -> Result<(), Error> {
    if pairing.is_noted {
        return Ok(());
    }
    let pair = fastrand::i64(..);
    journal.set_pair(pair)?;
    set_number(store.path(), PAIR, pair)
}

/// Whether a journal is not where its store used it last.
pub(super) fn is_missing(store: &Path, folder: &Path) -> bool {
    journal::identity(folder).is_none() && number(store, PAIR).is_ok_and(|known| known.is_some())
}

/// What that means, for `check`.
pub(super) fn missing(folder: &Path) -> String {
    format!(
        "the journal that this inbox used last is not in {}, and the next start begins a new one: if a disk is not mounted, mount it \
         first; the events that are in that journal alone are added then; if the inbox was moved after a clean stop, nothing is missing",
        folder.display()
    )
}
