//! A configured sink, before it is opened.

use crate::{ids::SinkName, kinds::Kind, opens::Cause, sink::Sink};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// One `[[sink]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Unique name, kept in the inbox beside each entry.
    pub name: SinkName,
    /// From the first failed attempt to parking.
    pub retry_for: Duration,
    /// What kind of destination, with its own settings.
    pub kind: Kind,
}

impl Settings {
    /// The files that the sink is built from, secrets and what it writes apart.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.kind.files().iter().map(PathBuf::as_path)
    }
}

/// Opens a configured sink: files are opened and mended, clients built; nothing is connected to. Blocking.
///
/// # Errors
/// What has to be corrected before the sink can work.
pub fn open(settings: &Settings) -> Result<Box<dyn Sink>, OpenError> {
    settings.kind.open().map_err(|cause| OpenError { sink: settings.name.clone(), cause })
}

/// A sink cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the sink {sink}")]
pub struct OpenError {
    /// Its configured name.
    pub sink: SinkName,
    #[source]
    cause: Cause,
}
