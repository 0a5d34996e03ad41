//! How far the sealing of old rows is. In memory only: a new round looks at what is sealed once more, and writes nothing.

use super::place::Place;

/// Which way rows are written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Written as it is, and to be sealed.
    Sealed,
    /// Sealed, and to be written as it is.
    Plain,
}

impl To {
    /// What the column of the key is in rows that are still to be written anew.
    pub(crate) const fn key_is(self) -> &'static str {
        match self {
            Self::Sealed => "IS NULL",
            Self::Plain => "IS NOT NULL",
        }
    }
}

/// A row that is to be written anew.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Entry(i64),
    Page(i64, u32),
    Resource(i64),
    Refused(i64),
}

impl Row {
    /// Where its sealed value stands.
    pub(crate) const fn place(self) -> Place {
        match self {
            Self::Entry(seq) => Place::Body(seq),
            Self::Page(reading, number) => Place::Page(reading, number),
            Self::Resource(reading) => Place::Resource(reading),
            Self::Refused(number) => Place::Refused(number),
        }
    }
}

/// How far a round has come in each table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) entry: i64,
    pub(crate) page: (i64, u32),
    pub(crate) resource: i64,
    pub(crate) refused: i64,
}

impl Round {
    /// The last row that was written anew.
    pub(crate) fn note(&mut self, row: Row) {
        match row {
            Row::Entry(seq) => self.entry = seq,
            Row::Page(reading, number) => self.page = (reading, number),
            Row::Resource(reading) => self.resource = reading,
            Row::Refused(number) => self.refused = number,
        }
    }
}
