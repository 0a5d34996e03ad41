//! The files of the inbox as a whole: `backup`, `restore`, `verify`. None of them needs the store to be open.

use crate::commands::{
    Failure, Global,
    acts::{Unnoted, noted},
    guest::{failure, note, open},
};
use clap::Subcommand;
use inbox::{
    Error, Filter, Settings,
    archive::{self, Copied, Restored, Verified},
};
use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Between two lines that say how far a long reading is.
const EVERY: Duration = Duration::from_secs(1);

/// What is done with them.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Action {
    /// Copy the inbox as it is at one moment to a new file, beside a running service
    Backup {
        /// The file to make (personal data; for its owner alone)
        file: PathBuf,
    },
    /// Put a backup in the place of the inbox, whose files are set aside; no service may be running
    Restore {
        /// A file that `inbox backup` made
        file: PathBuf,
    },
    /// Read everything that the inbox has on the disk, and say what is damaged and what to do
    Verify,
}

/// Does it.
pub(super) async fn run(global: &Global, action: Action) -> Result<(), Failure> {
    match action {
        Action::Backup { file } => backup(global, file).await,
        Action::Restore { file } => restore(global, file).await,
        Action::Verify => verify(global).await,
    }
}

/// Says now and then how far a long reading is.
fn progress(what: &'static str) -> impl FnMut(u64) + Send {
    let mut told = Instant::now();
    move |entries| {
        if told.elapsed() >= EVERY {
            told = Instant::now();
            note(format_args!("{what}: {entries} entries"));
        }
    }
}

/// Runs what blocks beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| Failure::from_error(&error))?;
    done.map_err(|error| failure(&error))
}

/// Makes a backup beside a running service, or without one.
async fn backup(global: &Global, to: PathBuf) -> Result<(), Failure> {
    let config = global.load()?;
    let (settings, inbox) = (config.inbox.clone(), open(&config)?);
    let which = ("backup", to.display().to_string());
    let copied = noted(&*inbox.audit, which, Unnoted::GoesOn, async || {
        // What was accepted until now is in the inbox file after this.
        inbox
            .desk
            .list(&Filter { seq: Some(inbox::Seq(0)), ..Filter::default() }, 1)
            .await
            .map_err(|error| failure(&error))?;
        let (settings, to) = (settings.clone(), to.clone());
        let copied = blocking(move || archive::backup(&settings, &to, progress("verified"))).await?;
        Ok((copied, copied.entries))
    })
    .await;
    inbox.upkeep.close().await;
    let Copied { entries, bytes } = copied?;
    note(format_args!("{}: {entries} entries, {bytes} bytes, read again and found whole", to.display()));
    Ok(())
}

/// Puts a backup in the place of the inbox.
async fn restore(global: &Global, from: PathBuf) -> Result<(), Failure> {
    let settings: Settings = global.load()?.inbox;
    let Restored { entries, from_journal, missing, set_aside } = {
        let from = from.clone();
        blocking(move || archive::restore(&settings, &from, progress("verified"))).await?
    };
    for file in set_aside {
        note(format_args!("set aside: {}", file.display()));
    }
    if missing > 0 {
        note(format_args!(
            "{missing} accepted events are neither in the backup nor in the journal: look for them in what was set aside"
        ));
    }
    if from_journal > 0 {
        note(format_args!("{from_journal} accepted events are in the journal: the next start adds them"));
    }
    note(format_args!("the inbox is that of {}, with {entries} entries", from.display()));
    Ok(())
}

/// Reads everything, and says what is wrong.
async fn verify(global: &Global) -> Result<(), Failure> {
    let settings = global.load()?.inbox;
    let Verified { entries, behind, problems } =
        blocking(move || archive::verify(&settings, progress("verified"))).await?;
    let mut out = io::stdout().lock();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    note(format_args!("{entries} entries compared with what was accepted; {behind} events are in the journal alone"));
    match problems.len() {
        0 => Ok(()),
        found => Err(Failure::ours(format_args!("{found} places of the inbox are damaged"))),
    }
}
