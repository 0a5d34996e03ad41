//! The files of the inbox as a whole: `backup`, `restore`, `verify`, `unseal`. `restore` and `verify` need no open store.

use crate::commands::{
    Failure, Global,
    acts::{Unnoted, noted},
    guest::{failure, note, open, open_alone},
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

/// Rows unsealed in one transaction.
const BATCH: usize = 500;

/// What is done with them.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Action {
    /// Copy the inbox as it is at one moment to a new file, beside a running service
    Backup {
        /// The file to make (personal data; for its owner alone)
        file: PathBuf,
        /// Write the keys of a sealed inbox too, to a file of their own; a backup has none
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Put a backup in the place of the inbox, whose files are set aside; no service may be running
    Restore {
        /// A file that `inbox backup` made
        #[arg(required_unless_present = "from_journal")]
        file: Option<PathBuf>,
        /// Without a backup: begin an empty inbox, to which the next start adds the events that the journal still has
        #[arg(long, conflicts_with_all = ["file", "keys"])]
        from_journal: bool,
        /// Add the keys of a file that `inbox backup --keys` made
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Read everything that the inbox has on the disk, and say what is damaged and what to do
    Verify,
    /// Take the seal away: store everything as it is, no service may be running
    Unseal {
        /// Really store bank data unencrypted
        #[arg(long)]
        yes: bool,
    },
}

impl Action {
    /// As it is typed.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "inbox backup",
            Self::Restore { .. } => "inbox restore",
            Self::Verify => "inbox verify",
            Self::Unseal { .. } => "inbox unseal",
        }
    }
}

/// Does it.
pub(super) async fn run(global: &Global, action: Action) -> Result<(), Failure> {
    match action {
        Action::Backup { file, keys } => backup(global, file, keys).await,
        Action::Restore { file: Some(file), keys, .. } => restore(global, file, keys).await,
        Action::Restore { file: None, .. } => restore_from_journal(global).await,
        Action::Verify => verify(global).await,
        Action::Unseal { yes: false } => Err(unconfirmed()),
        Action::Unseal { yes: true } => unseal(global).await,
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
async fn backup(global: &Global, to: PathBuf, keys: Option<PathBuf>) -> Result<(), Failure> {
    let config = global.load()?;
    let (settings, inbox) = (config.inbox.clone(), open(&config).await?);
    let with_keys = keys.as_ref().map(|keys| format!(" --keys {}", keys.display())).unwrap_or_default();
    let which = ("backup", format!("{}{with_keys}", to.display()));
    let copied = noted(&*inbox.audit, which, Unnoted::GoesOn, async || {
        // What was accepted until now is in the inbox file after this.
        inbox
            .desk
            .list(&Filter { seq: Some(inbox::Seq(0)), ..Filter::default() }, 1)
            .await
            .map_err(|error| failure(&error))?;
        let (settings, to, keys) = (settings.clone(), to.clone(), keys.clone());
        let copied = blocking(move || archive::backup(&settings, &to, keys.as_deref(), progress("verified"))).await?;
        Ok((copied, copied.entries))
    })
    .await;
    inbox.upkeep.close().await;
    let Copied { entries, bytes, unopened, is_sealed } = copied?;
    note(format_args!("{}: {entries} entries, {bytes} bytes, read again and found whole", to.display()));
    say_unopened(unopened);
    match keys {
        Some(keys) => note(format_args!("{}: its keys; keep them apart from the backup", keys.display())),
        None if is_sealed => note(format_args!("its keys are not in it: `inbox backup --keys FILE` writes them apart")),
        None => {}
    }
    Ok(())
}

fn say_unopened(unopened: u64) {
    if unopened > 0 {
        note(format_args!("{unopened} entries are sealed and were not opened, because inbox.key is not set"));
    }
}

/// `--yes` is missing.
fn unconfirmed() -> Failure {
    Failure::usage("unseal stores bank data unencrypted\nhint: add --yes if that is what you want")
}

/// Takes the seal from everything, where no service is running.
async fn unseal(global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    if config.inbox.key.is_empty() {
        return Err(Failure::usage(
            "inbox.key is not set, and nothing can be opened without it\nhint: set it, run this, then take it out",
        ));
    }
    let inbox = open_alone(&config).await?;
    let result = noted(&*inbox.audit, ("unseal", String::new()), Unnoted::Stops, async || {
        let mut tell = progress("unsealed");
        let mut changed = 0;
        loop {
            let done = inbox.upkeep.unseal(BATCH).await.map_err(|error| failure(&error))?;
            changed += done.changed;
            tell(changed);
            if done.is_done {
                return Ok((changed, changed));
            }
        }
    })
    .await;
    inbox.upkeep.close().await;
    note(format_args!(
        "{} rows are stored as they are now: take inbox.key out of the configuration before the next start, which would seal them \
         again; keep {} for backups that are sealed",
        result?,
        config.inbox.keys_place()
    ));
    Ok(())
}

/// Puts a backup in the place of the inbox.
async fn restore(global: &Global, from: PathBuf, keys: Option<PathBuf>) -> Result<(), Failure> {
    let settings: Settings = global.load()?.inbox;
    let Restored { entries, from_journal, missing, set_aside } = {
        let from = from.clone();
        blocking(move || archive::restore(&settings, &from, keys.as_deref(), progress("verified"))).await?
    };
    tell_set_aside(&set_aside);
    match missing {
        Some(0) => {}
        Some(missing) => note(format_args!(
            "{missing} accepted events are neither in the backup nor in the journal: look for them in what was set aside"
        )),
        None => note(format_args!(
            "accepted events may be neither in the backup nor in the journal, and what was set aside cannot be read: read the \
             connections of the time since the backup from the Linxo API"
        )),
    }
    if from_journal > 0 {
        note(format_args!("{from_journal} accepted events are in the journal: the next start adds them"));
    }
    note(format_args!("the inbox is that of {}, with {entries} entries", from.display()));
    Ok(())
}

/// Begins an empty inbox for what a journal still has.
async fn restore_from_journal(global: &Global) -> Result<(), Failure> {
    let settings: Settings = global.load()?.inbox;
    let Restored { from_journal, set_aside, .. } = blocking(move || archive::restore_from_journal(&settings)).await?;
    tell_set_aside(&set_aside);
    note(format_args!("{from_journal} accepted events are in the journal: the next start adds them"));
    note(format_args!(
        "the inbox is empty: what the lost one alone had, waiting and parked events too, is not in it; read the connections of that time \
         from the Linxo API"
    ));
    Ok(())
}

fn tell_set_aside(files: &[PathBuf]) {
    for file in files {
        note(format_args!("set aside: {}", file.display()));
    }
}

/// Reads everything, and says what is wrong.
async fn verify(global: &Global) -> Result<(), Failure> {
    let settings = global.load()?.inbox;
    let Verified { entries, unopened, behind, problems } =
        blocking(move || archive::verify(&settings, progress("verified"))).await?;
    let mut out = io::stdout().lock();
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    note(format_args!(
        "{} entries compared with what was accepted; {behind} events are in the journal alone",
        entries - unopened
    ));
    say_unopened(unopened);
    match problems.len() {
        0 => Ok(()),
        found => Err(Failure::ours(format_args!("{found} places of the inbox are damaged"))),
    }
}
