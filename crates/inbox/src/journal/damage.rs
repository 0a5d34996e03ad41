//! What is wrong with a journal, where, and what to do about it.

use std::{fmt, path::PathBuf};

/// A place of the journal that should hold records and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file.
    pub(crate) file: PathBuf,
    /// Bytes before the place in the file.
    pub(crate) offset: u64,
    /// The first position that cannot be read.
    pub(crate) position: u64,
    pub(crate) kind: Kind,
}

/// What kind of damage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What stands there is not what was written.
    Changed,
    /// The file is not there.
    Missing,
    /// The file belongs to another inbox.
    Foreign,
    /// It is the segment of this number, under the name of another.
    Misnamed(u64),
    /// A version of the program wrote it that this one does not know.
    Version(u32),
}

impl Kind {
    /// Whether the journal is not opened beside it.
    pub(crate) const fn bars(self) -> bool {
        matches!(self, Self::Foreign | Self::Version(_))
    }
}

impl Damage {
    /// What to do about it, in one sentence.
    pub(crate) fn remedy(&self) -> String {
        let file = self.file.display();
        match self.kind {
            Kind::Changed | Kind::Missing => format!(
                "put this file back from a copy of the disk and start again; to give up its events instead, from position \
                 {} on, stop the service and rename the file (or make an empty one) to `{file}.lost`",
                self.position
            ),
            Kind::Foreign => {
                "give each inbox a folder of its own (`inbox.journal`), or put back the inbox that this journal \
                              belongs to"
                    .to_owned()
            }
            Kind::Misnamed(number) => format!(
                "stop the service and give each segment the name of its number, {number:016x}.segment for this one; where that is there \
                 already, with the same content, rename this one to `{file}.lost`"
            ),
            Kind::Version(_) => "use the version of linxo-webhook that wrote it, or a newer one".to_owned(),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, position, kind } = self;
        let file = file.display();
        match kind {
            Kind::Changed => write!(f, "the journal is damaged in {file} at byte {offset}, position {position}"),
            Kind::Missing => {
                write!(f, "{file} of the journal is missing, with the events from position {position} on")
            }
            Kind::Foreign => write!(f, "{file} belongs to another inbox"),
            Kind::Misnamed(number) => write!(f, "{file} is segment {number} of the journal under a wrong name"),
            Kind::Version(found) => write!(f, "{file} has format {found}, which this program does not know"),
        }?;
        write!(f, ": {}", self.remedy())
    }
}

impl std::error::Error for Damage {}
