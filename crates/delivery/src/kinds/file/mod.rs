//! NDJSON appended to a file: one `CloudEvents` document a line, synced before the entry is settled.
//!
//! In: deliveries. Out: `Ok` after `fdatasync`, one for each batch. What the file holds after trouble:
//! - A write or sync that failed is taken back: the file is cut to where the batch began, and opened by name again
//!   before the next one (after a failed sync the kernel's idea of the file is not to be trusted).
//! - An incomplete last line found on opening is what a crash left of a line that was never acknowledged. It is cut off,
//!   because it comes again. Where it does not look like a line of ours, it is kept and ended with a line feed instead:
//!   somebody may have written into the file. Complete lines are never touched, so a crash can leave a line twice, not less than once.
//! - A file that was moved away is written to until `reopen` (SIGHUP); one that was deleted is made anew at once, because
//!   acknowledging lines into a deleted file would lose them.
//!
//! The file is created with mode 0600, since it holds personal data; one that was there before is narrowed where others may
//! open it. It is locked, since two writers would cut each other's lines. A file that holds something else than lines of
//! this sink is refused. Not here: rotation, compression, retention.

mod appender;
mod mend;
mod own;
mod settings;
#[cfg(test)]
mod tests;

pub use self::settings::Settings;

use crate::{
    opens::{Cause, Opens},
    sink::{Delivery, Error, Failure, Sink},
    writer::Writer,
};
use appender::Appender;
use async_trait::async_trait;
use std::{
    io,
    path::{Path, PathBuf},
};

impl Opens for Settings {
    fn open(&self) -> Result<Box<dyn Sink>, Cause> {
        let lines = Lines::open(&self.path).map_err(|source| Problem { path: self.path.clone(), source })?;
        Ok(Box::new(lines))
    }

    fn rehearse(&self) -> Result<(), Cause> {
        mend::rehearse(&self.path).map_err(|source| Problem { path: self.path.clone(), source })?;
        Ok(())
    }

    fn writes(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

/// Why the file cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the file {}", path.display())]
struct Problem {
    path: PathBuf,
    source: io::Error,
}

/// The sink.
#[derive(Debug)]
struct Lines(Writer);

impl Lines {
    /// Opens and mends the file, and starts the thread that writes it.
    fn open(path: &Path) -> io::Result<Self> {
        let appender = Appender::open(path)?;
        Writer::spawn(move || appender).map(Self)
    }
}

#[async_trait]
impl Sink for Lines {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Error> {
        self.0.deliver(delivery).await
    }

    async fn deliver_many(&self, deliveries: &[Delivery]) -> Vec<Result<(), Error>> {
        self.0.deliver_many(deliveries).await
    }

    fn batch(&self) -> usize {
        Writer::BATCH
    }

    async fn reopen(&self) -> Result<(), Failure> {
        self.0.reopen().await
    }
}
