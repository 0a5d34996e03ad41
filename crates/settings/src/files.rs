//! Files and folders that a key names: they must be there, and files of secrets must be private.

use crate::{
    at::{At, Read},
    authorities::{self, Of},
    flaw::Flaw,
};
use base::clock;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

impl At<'_, '_> {
    /// Reports a file that cannot be opened for reading.
    ///
    /// # Errors
    /// The problem was recorded.
    pub fn must_be_readable(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
        self.uses(name, file);
        let opened = File::open(file).and_then(|opened| {
            let is_folder = opened.metadata()?.is_dir();
            if is_folder { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(opened) }
        });
        match opened {
            Ok(_) => Ok(file.to_owned()),
            Err(error) => {
                let shown = file.display();
                let reason = format!("names the file {shown}, which cannot be read: {error}");
                let hint = "check the path (from the working directory) and who may read the file";
                Err(self.flawed(name, Flaw::new(reason, hint)))
            }
        }
    }

    /// As [`Self::must_be_readable`], with a warning where others can open it too.
    ///
    /// # Errors
    /// The problem was recorded.
    pub fn must_be_private(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
        let path = self.must_be_readable(name, file)?;
        if let Ok(opened) = File::open(file) {
            let key = self.title(name);
            self.warn_of_readers(&key, file, &opened);
        }
        Ok(path)
    }

    /// Reports a file that holds no certificate of an authority. One whose certificates have all ended is noted as
    /// [ended](Self::ended).
    ///
    /// # Errors
    /// The problem was recorded.
    pub fn must_hold_authorities(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
        self.must_hold_certificates(name, file, Of::Authorities)
    }

    /// Reports a file that holds no certificate; one that has ended is noted as [ended](Self::ended).
    ///
    /// # Errors
    /// The problem was recorded.
    pub fn must_hold_certificate(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
        self.must_hold_certificates(name, file, Of::Somebody)
    }

    fn must_hold_certificates(&mut self, name: &str, file: &Path, of: Of) -> Read<PathBuf> {
        let path = self.must_be_readable(name, file)?;
        let (key, shown) = (self.title(name), path.display());
        let said = |reason: &str| format!("names the file {shown}, which {reason}");
        let found = authorities::look(&fs::read(&path).unwrap_or_default(), of, clock::now())
            .map_err(|flaw| self.flawed(name, Flaw { reason: said(&flaw.reason), hint: flaw.hint }))?;
        for subject in &found.alone {
            self.warn(format!("{key}: {shown} holds {subject:?}, which is no authority and vouches for itself alone"));
        }
        // Of a chain each one is needed.
        let is_of_no_use = of == Of::Somebody || found.ended.len() == found.count;
        for (subject, end) in &found.ended {
            if is_of_no_use {
                let reason = said(&format!("holds {subject:?}, a certificate that ended on {end}"));
                self.ended(name, Flaw::new(reason, "ask for its successor, and name that one"));
            } else {
                self.warn(format!("{key}: {shown} holds {subject:?}, which ended on {end}: remove it"));
            }
        }
        Ok(path)
    }

    /// Reports a folder that does not exist.
    ///
    /// # Errors
    /// The problem was recorded.
    pub fn must_be_folder(&mut self, name: &str, folder: &Path) -> Read<()> {
        if fs::metadata(folder).is_ok_and(|about| about.is_dir()) {
            return Ok(());
        }
        let reason = format!("lies in {}, which is no folder that exists", folder.display());
        Err(self.flawed(name, Flaw::new(reason, "make the folder first")))
    }

    /// Warns where anybody may open a file that holds a secret, or its group may change it. That its group may read it
    /// is how secrets are handed to a service: Kubernetes mounts them as root's, with the group of the pod.
    pub(crate) fn warn_of_readers(&mut self, key: &str, path: &Path, file: &File) {
        if let Ok(about) = file.metadata()
            && about.permissions().mode() & 0o027 != 0
        {
            let mode = about.permissions().mode() & 0o777;
            let name = path.display();
            self.warn(format!(
                "{key}: anybody on this machine can open {name}, or its group can change it (mode {mode:04o}): \
                 `chmod o=,g-w {name}`"
            ));
        }
    }
}
