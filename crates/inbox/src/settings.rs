//! What the inbox is told: `[inbox]`.

use crate::seal;
use base::{folder, secret::Secret};
use settings::{Flaw, duration, number, path, secrets, section, size, text};
use std::{fmt, path::PathBuf, time::Duration};

section! {
    /// The inbox: where events are safe before the vendor is answered.
    pub struct Settings {
        /// Where entries are kept: one SQLite file. Its folder is made if it is missing.
        pub store("url"): Store = text(store).default("sqlite:data/inbox.db"),
        /// Folder of the journal, where events are safe first: a 2xx waits for one write to it. Not given: beside the inbox file.
        /// `off`: a 2xx waits for the inbox file itself, which is slower.
        pub journal: Option<Journal> = text(journal).example("\"data/inbox.journal\"").optional(),
        /// Bytes of the journal at most. Beyond it, because the inbox file cannot be written, new events are answered 503.
        pub journal_max: u64 = size().default("1 GiB").between("16 MiB", "1 TiB"),
        /// Bank data at rest is encrypted with this key: 32 random bytes, as `openssl rand -base64 32` prints them. A list, the newest
        /// first, while keys are exchanged. Keep a copy of it elsewhere: nobody can read the inbox without it.
        pub key: Vec<Secret> = secrets(seal_key).example("{ file = \"secrets/inbox\" }"),
        /// Where the data keys are kept that `key` encrypts. Not given: keys.db beside the inbox file.
        pub keys: Option<PathBuf> = path().example("\"data/keys.db\"").optional(),
        /// How long done entries are kept. Unfinished ones are never deleted.
        pub retention: Duration = duration().default("30d").between("1m", "3650d"),
        /// How long it is kept what operators did (`linxo-webhook inbox audit`).
        pub audit_retention: Duration = duration().default("365d").between("1d", "3650d"),
        /// Unfinished entries above which new events are answered 503.
        pub max_waiting: u64 = number().default("1000000").between("1", "1000000000"),
        /// Free space on the inbox's disk below which new events are answered 503.
        pub min_free_disk: u64 = size().default("256 MiB").between("0 B", "100 TiB"),
        /// Refused requests that are kept for inspection (`linxo-webhook inbox refused`). 0: none.
        pub refused: u64 = number().default("1000").between("0", "100000"),
    }
}

/// The store behind the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// One SQLite file, owned by one process.
    Sqlite(PathBuf),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        write!(f, "sqlite:{}", path.display())
    }
}

/// Where events are safe first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// In the store: each 2xx waits for its commit.
    Off,
    /// In a journal in this folder.
    Folder(PathBuf),
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

fn journal(text: &str) -> Result<Journal, Flaw> {
    match text {
        "off" => Ok(Journal::Off),
        "" => Err(Flaw::new("does not name a folder", "write \"data/inbox.journal\" or \"off\"")),
        path => Ok(Journal::Folder(path.into())),
    }
}

fn seal_key(text: &str) -> Result<(), Flaw> {
    match seal::parse(text) {
        Some(_) => Ok(()),
        None => Err(Flaw::new("is not 32 bytes in base64", "take the output of `openssl rand -base64 32`")),
    }
}

impl Settings {
    /// The file of the data keys.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        let Store::Sqlite(path) = &self.store;
        self.keys.clone().unwrap_or_else(|| folder::of(path).join("keys.db"))
    }

    /// The folder of the journal; `None`: there is none.
    #[must_use]
    pub fn journal_folder(&self) -> Option<PathBuf> {
        match &self.journal {
            Some(Journal::Off) => None,
            Some(Journal::Folder(path)) => Some(path.clone()),
            None => Some(self.journal_beside()),
        }
    }

    /// The folder of a journal that is named nowhere.
    pub(crate) fn journal_beside(&self) -> PathBuf {
        let Store::Sqlite(path) = &self.store;
        path.with_extension("journal")
    }
}

fn store(text: &str) -> Result<Store, Flaw> {
    const HINT: &str = "write \"sqlite:data/inbox.db\" or \"sqlite:/var/lib/linxo-webhook/inbox.db\"";
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return Err(Flaw::new("names PostgreSQL, which is not available in this version", HINT));
    }
    let Some(path) = text.strip_prefix("sqlite:") else {
        return Err(Flaw::new("must begin with `sqlite:`", HINT));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err(Flaw::new("does not name a file", HINT));
    }
    if path.starts_with(':') || path.contains('?') {
        return Err(Flaw::new("must be the plain path of a file: an event that was answered has to be on disk", HINT));
    }
    Ok(Store::Sqlite(path.into()))
}
