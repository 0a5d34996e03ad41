//! How values are written in the tables, and read.
//!
//! PostgreSQL keeps every character in a text but U+0000, and JSON may say `\u0000`. So that no event is refused for it, the last
//! character of Unicode, which nobody uses, stands before a digit: 0 for U+0000, and 1 for itself. Every other text stands as it is.

use crate::{Cause, Certainty, CredentialsMark, seal::Owner};
use base::clock::Timestamp;
use tokio_postgres::Row;

/// Stands before a digit that says which character is meant.
const ESCAPE: char = '\u{10ffff}';

/// A value of a row that makes no sense to this version.
#[derive(Debug, thiserror::Error)]
#[error("a row of the inbox has {0}, which this version does not know")]
pub(super) struct Unknown(pub(super) &'static str);

/// A text as it is written.
pub(crate) fn text(plain: &str) -> String {
    if !plain.contains(['\0', ESCAPE]) {
        return plain.to_owned();
    }
    plain.replace(ESCAPE, "\u{10ffff}1").replace('\0', "\u{10ffff}0")
}

/// As [`text`], of one that may be absent.
pub(super) fn maybe(plain: Option<&str>) -> Option<String> {
    plain.map(text)
}

/// The text that was written so.
pub(crate) fn plain(written: String) -> String {
    if !written.contains(ESCAPE) {
        return written;
    }
    written.replace("\u{10ffff}0", "\0").replace("\u{10ffff}1", "\u{10ffff}")
}

/// Reads the column of a text.
pub(super) fn read(row: &Row, column: &str) -> Result<String, tokio_postgres::Error> {
    row.try_get(column).map(plain)
}

/// Reads the column of a text that may be absent.
pub(super) fn read_maybe(row: &Row, column: &str) -> Result<Option<String>, tokio_postgres::Error> {
    row.try_get::<_, Option<String>>(column).map(|written| written.map(plain))
}

/// Whose a row is, by its columns `connection` and `user`.
pub(super) fn owner(row: &Row) -> Result<Owner, tokio_postgres::Error> {
    Ok(Owner::new(&read(row, "connection")?, read_maybe(row, "user")?.as_deref()))
}

/// The data keys that rows name in their column `key`.
pub(super) fn keys(rows: &[Row]) -> Result<Vec<Option<i64>>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get("key")).collect()
}

/// Reads a count, which PostgreSQL keeps with a sign.
pub(super) fn unsigned(row: &Row, column: &str) -> Result<Option<u64>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<i64>>(column)?.and_then(|count| u64::try_from(count).ok()))
}

/// A count as it is written.
pub(super) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Reads a time of the server that may be absent.
pub(super) fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// Reads a cause of parking from its two columns.
pub(super) fn cause(row: &Row) -> Result<Option<Cause>, tokio_postgres::Error> {
    let word: Option<&str> = row.try_get("cause")?;
    let credentials = read_maybe(row, "credentials")?;
    Ok(word.and_then(|word| Cause::parse(word, credentials.map(CredentialsMark::new))))
}

/// The column `credentials` of a cause.
pub(super) fn credentials(cause: Option<&Cause>) -> Option<&str> {
    match cause {
        Some(Cause::Credentials(mark)) => Some(mark.as_str()),
        _ => None,
    }
}

/// A certainty as it is written.
pub(super) const fn number(certainty: Certainty) -> i64 {
    match certainty {
        Certainty::AsAnnounced => 0,
        Certainty::Agreed => 1,
        Certainty::Unsettled => 2,
    }
}

/// The certainty that was written so.
pub(super) const fn certainty(number: Option<i64>) -> Certainty {
    match number {
        Some(0) => Certainty::AsAnnounced,
        Some(1) => Certainty::Agreed,
        _ => Certainty::Unsettled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_comes_back_and_no_two_are_written_alike(
            one in "[a0\u{0}\u{10ffff}1]{0,6}",
            other in "[a0\u{0}\u{10ffff}1]{0,6}",
        ) {
            prop_assert!(!text(&one).contains('\0'));
            prop_assert_eq!(plain(text(&one)), one.clone());
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }
    }
}
