//! What `demo` and `listen` leave nothing of: a folder that goes when the command ends, the signals that end it, and how
//! another command of the same user finds one that runs.

use super::Failure;
use crate::{config, control};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The configuration in such a folder.
pub(super) const CONFIGURATION: &str = "linxo-webhook.toml";

/// A folder of its own for this command: among temporary files, or where there is no such place, as in the container, beside the
/// inbox. Nobody else may look into it.
pub(super) fn folder(command: &str) -> Result<TempDir, Failure> {
    let mut refused = Vec::new();
    let mut builder = tempfile::Builder::new();
    let prefix = prefix(command);
    builder.prefix(&prefix).permissions(Permissions::from_mode(0o700));
    for place in places() {
        match builder.tempdir_in(&place) {
            Ok(folder) => return Ok(folder),
            Err(error) => refused.push(format!("{}: {error}", place.display())),
        }
    }
    Err(Failure::not_now(format_args!(
        "{command} finds no folder to write to: {}\nhint: name one in the variable TMPDIR",
        refused.join("; ")
    )))
}

fn places() -> [PathBuf; 3] {
    [std::env::temp_dir(), "data".into(), ".".into()]
}

fn prefix(command: &str) -> String {
    format!("linxo-webhook-{command}-")
}

/// The configurations of this user's runs of a command that are under way.
pub(super) fn under_way(command: &str) -> Vec<PathBuf> {
    let prefix = prefix(command);
    let entries = places().into_iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    // What is not ours, or what others could have written to, is not to be believed.
    let ours = named.map(|entry| entry.path()).filter(|path| is_ours(path)).map(|path| path.join(CONFIGURATION));
    ours.filter(|file| answers(file)).collect()
}

fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o777 == 0o700
    })
}

/// Whether a service with this configuration runs. A run that was killed leaves its folder behind.
fn answers(file: &Path) -> bool {
    let Ok(config) = config::load(Some(file), []) else { return false };
    matches!(control::Client::find(&control::path(&config.inbox)), Ok(Some(_)))
}

/// What ends a command: SIGINT, SIGTERM, and SIGHUP, which comes when its terminal is closed.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::ours(format_args!("cannot listen for signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Resolves when the command is told to end.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// Does something, unless the command is told to end before it is done.
    pub(super) async fn unless_told<T>(&mut self, something: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = something => Ok(done),
            () = self.told() => Err(Failure::not_now("ended before it was over; nothing is left behind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn only_a_folder_that_nobody_else_may_use_is_believed() {
        let folder = folder("test").unwrap();
        assert!(is_ours(folder.path()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(!is_ours(&link));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_ours(folder.path()));
        assert!(!answers(&folder.path().join(CONFIGURATION)));
    }
}
