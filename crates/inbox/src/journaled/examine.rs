//! What is not as it should be with the files of an inbox, for `check`. Writes nothing.

use super::pairing;
use crate::{
    Error, SealStanding, Settings, SinkName, archive,
    journal::{self, verify},
    sqlite,
};
use base::error::chain;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// One sentence, with what to do.
    pub text: String,
    /// Whether the service does not start because of it.
    pub bars: bool,
}

impl Remark {
    const fn new(text: String) -> Self {
        Self { text, bars: false }
    }
}

/// What is not as it should be with the files of the configured inbox. It may be called beside a running service. What is not
/// there yet is in order.
#[must_use]
pub fn examine(settings: &Settings, sinks: &[SinkName]) -> Vec<Remark> {
    // What is on a server is looked at by `check --online`.
    let Some(path) = settings.file() else { return Vec::new() };
    let folder = settings.journal_folder();
    let is_taken_beside = archive::known_journal(settings).is_some();
    if sqlite::is_gone(path) {
        let lost = archive::refuse_lost(settings, path).err();
        return lost.map(|error| Remark { text: chain(&error), bars: !is_taken_beside }).into_iter().collect();
    }
    let (identity, reached) = match sqlite::look(path) {
        Ok(found) => found,
        Err(error) => {
            let is_mended = is_taken_beside && sqlite::is_damage(&error);
            let bars = matches!(error, Error::Open { .. }) && !is_mended;
            return vec![Remark { text: chain(&error), bars }];
        }
    };
    let mut remarks: Vec<Remark> = sqlite::look_for_left_behind(path, sinks)
        .into_iter()
        .map(|(name, waiting)| Remark::new(left_behind(&name, waiting)))
        .collect();
    if let Some(folder) = folder.as_ref().filter(|folder| pairing::is_missing(path, folder)) {
        remarks.push(Remark::new(pairing::missing(folder)));
    }
    let Some(folder) = folder.filter(|folder| folder.exists()) else { return remarks };
    let report = match verify(&folder, identity.0, reached.0) {
        Ok(report) => report,
        Err(error) => {
            let text = format!("the journal {} cannot be read: {error}", folder.display());
            remarks.push(Remark { text, bars: true });
            return remarks;
        }
    };
    remarks.extend(report.damage.iter().map(|damage| Remark { text: damage.to_string(), bars: damage.kind.bars() }));
    let rest = report.behind;
    // Beside a running service that is usual.
    if rest > 0 && journal::tail(&folder, identity.0).is_ok_and(|tail| !tail.is_owned) {
        remarks.push(Remark::new(format!(
            "{rest} accepted events are in the journal {} alone; the next start of the service moves them into the inbox",
            folder.display()
        )));
    }
    remarks
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
