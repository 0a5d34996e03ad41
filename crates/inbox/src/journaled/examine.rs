//! What is not as it should be with the files of an inbox, for `check`. Writes nothing.

use super::pairing;
use crate::{
    Error, SealStanding, Settings, SinkName, archive,
    journal::{self, verify},
    sqlite,
};
use base::error::chain;
use std::path::Path;

/// What is not as it should be with the files of the configured inbox: one sentence each, with what to do. It may be called
/// beside a running service. What is not there yet is in order.
#[must_use]
pub fn examine(settings: &Settings, sinks: &[SinkName]) -> Vec<String> {
    // What is on a server is looked at by `check --online`.
    let Some(path) = settings.file() else { return Vec::new() };
    let folder = settings.journal_folder();
    if sqlite::is_gone(path) {
        let rest = folder.filter(|folder| journal::identity(folder).is_some());
        let rest = rest.map(|folder| missing(settings, &folder));
        let left = || archive::refuse_interrupted(path).and_then(|()| sqlite::refuse_log_alone(path)).err();
        return rest.or_else(|| left().map(|error| chain(&error))).into_iter().collect();
    }
    let (identity, reached) = match sqlite::look(path) {
        Ok(found) => found,
        Err(error) => return vec![chain(&error)],
    };
    let mut problems: Vec<String> = sqlite::look_for_left_behind(path, sinks)
        .into_iter()
        .map(|(name, waiting)| left_behind(&name, waiting))
        .collect();
    if let Some(folder) = folder.as_ref().filter(|folder| pairing::is_missing(path, folder)) {
        problems.push(pairing::missing(folder));
    }
    let Some(folder) = folder.filter(|folder| folder.exists()) else { return problems };
    let report = match verify(&folder, identity.0, reached.0) {
        Ok(report) => report,
        Err(error) => {
            problems.push(format!("the journal {} cannot be read: {error}", folder.display()));
            return problems;
        }
    };
    problems.extend(report.damage.iter().map(ToString::to_string));
    let rest = report.behind;
    // Beside a running service that is usual.
    if rest > 0 && journal::tail(&folder, identity.0).is_ok_and(|tail| !tail.is_owned) {
        problems.push(format!(
            "{rest} accepted events are in the journal {} alone; the next start of the service moves them into the inbox",
            folder.display()
        ));
    }
    problems
}

/// How the seal of the configured inbox stands. It may be called beside a running service.
///
/// # Errors
/// [`Error::Seal`]: the service would not start; the text says what to do.
pub fn seal_standing(settings: &Settings) -> Result<SealStanding, Error> {
    let ahead = if settings.key.is_empty() { SealStanding::Off } else { SealStanding::Ahead };
    let Some(path) = settings.file() else { return Ok(if settings.key.is_empty() { ahead } else { SealStanding::On }) };
    if sqlite::is_gone(path) {
        return Ok(ahead);
    }
    match sqlite::standing(path, settings) {
        Err(error @ Error::Seal { .. }) => Err(error),
        // What else is wrong with the file is found by `examine`.
        found => Ok(found.unwrap_or(ahead)),
    }
}

/// A sink was renamed or taken out, and has work.
fn left_behind(name: &str, waiting: i64) -> String {
    format!(
        "{waiting} deliveries wait for the sink {name}, which is not configured: configure it again under this name, give \
         them to another sink with `inbox move --from {name} --to NAME`, or give them up with `inbox park --sink {name} --all`"
    )
}

/// The inbox file is not there, and its journal is.
pub(crate) fn missing(settings: &Settings, folder: &Path) -> String {
    // The store is gone, so nobody knows which of them it had.
    let held = journal::identity(folder).and_then(|identity| journal::verify(folder, identity, 0).ok());
    format!(
        "the inbox file {} is missing or empty, and its journal {} is there, with {} accepted events: put the file back, from a backup with \
         `inbox restore` if need be; to begin with an empty inbox instead, and give these events up, move the journal and what stands \
         beside the file away",
        settings.file().unwrap_or(Path::new("")).display(),
        folder.display(),
        held.map_or(0, |report| report.behind)
    )
}
