//! How far the sealing of old rows is. In memory only: a new round looks at what is sealed once more, and writes nothing.

/// A row that is to be written anew.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    Entry(i64),
    Page(i64, u32),
    Resource(i64),
    Refused(i64),
}

/// How far a round has come in each table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    pub(super) entry: i64,
    pub(super) page: (i64, u32),
    pub(super) resource: i64,
    pub(super) refused: i64,
}

impl Round {
    /// The last row that was written anew.
    pub(super) fn note(&mut self, row: Row) {
        match row {
            Row::Entry(seq) => self.entry = seq,
            Row::Page(reading, number) => self.page = (reading, number),
            Row::Resource(reading) => self.resource = reading,
            Row::Refused(number) => self.refused = number,
        }
    }
}
