//! The layer between the true program and its disk: `fault.c`.

use super::Site;
use std::{fs, path::PathBuf};
use tokio::process::Command;

/// A layer that does what it is told.
pub(crate) struct Faults {
    library: PathBuf,
    control: PathBuf,
    folder: PathBuf,
}

impl Faults {
    /// A sound disk, for the folder of a site's inbox.
    pub(crate) async fn of(site: &Site) -> Self {
        let library = site.path("fault.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/fault.c");
        let compiler = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output();
        let compiler = compiler.await.expect("a C compiler, which the build needs too");
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        let faults = Self { library, control: site.path("control"), folder: site.path("data/") };
        faults.set("");
        faults
    }

    /// Puts the layer under a program that is about to start.
    pub(crate) fn put_under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAULT_CONTROL", &self.control).env("FAULT_FOLDER", &self.folder);
    }

    /// From now on the disk does this; nothing: it is sound.
    pub(crate) fn set(&self, fault: &str) {
        // Replaced as a whole, so that the program never reads half of it.
        let new = self.control.with_extension("new");
        fs::write(&new, fault).unwrap();
        fs::rename(new, &self.control).unwrap();
    }
}
