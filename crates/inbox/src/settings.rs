//! What the inbox is told: `[inbox]`.

mod server;

pub use server::Server;

use crate::seal;
use base::{folder, secret::Secret};
use settings::{
    At, Flaw, authorities, certificate, duration, number, path, private_file, secret, secrets, section, size, text,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

section! {
    /// The inbox: where events are safe before the vendor is answered.
    pub struct Settings {
        /// Where entries are kept: one SQLite file, whose folder is made if it is missing; or PostgreSQL, which several receivers
        /// share: `postgres://user@host/database`. `linxo-webhook inbox init` makes its tables. `sslmode` behind a `?` is
        /// verify-full where it is not given, and may be disable on this machine; `schema` is linxo_webhook where it is not given.
        pub store("url"): Store = text(Store::from_str).default("sqlite:data/inbox.db"),
        /// Password of PostgreSQL's user. Read again when it changes, for new connections.
        pub password: Option<Secret> = secret(|_| Ok(())).example("{ file = \"secrets/postgres\" }").optional(),
        /// PEM files of the authorities that vouch for PostgreSQL. Not given: those of the system.
        pub authorities: Vec<PathBuf> = authorities(),
        /// PEM file of a client certificate for PostgreSQL. Needs `certificate_key`.
        pub certificate: Option<PathBuf> = certificate().example("\"certs/postgres-client.pem\"").optional(),
        /// PEM file of the private key of that certificate.
        pub certificate_key: Option<PathBuf> = private_file().example("\"certs/postgres-client.key\"").optional(),
        /// Connections to PostgreSQL at most, beside up to 4 for the data keys of a sealed inbox.
        pub connections: usize = number().default("16").between("4", "1000"),
        /// Folder for what a service on PostgreSQL has of its own: the socket for commands on this machine. With SQLite that is the
        /// folder of the inbox file.
        pub folder: PathBuf = path().default("data"),
        /// Folder of the journal. With SQLite events are safe there first, a 2xx waits for one write to it, and it is beside the
        /// inbox file where it is not given; `off`: a 2xx waits for the inbox file itself, which is slower. With PostgreSQL it is
        /// off where it is not given; a folder takes events while PostgreSQL does not answer.
        pub journal: Option<Journal> = text(journal).example("\"data/inbox.journal\"").optional(),
        /// Bytes of the journal at most. Beyond it, because the inbox itself cannot be written, new events are answered 503.
        pub journal_max: u64 = size().default("1 GiB").between("16 MiB", "1 TiB"),
        /// Bank data at rest is encrypted with this key: 32 random bytes, as `openssl rand -base64 32` prints them. A list, the newest
        /// first, while keys are exchanged. Keep a copy of it elsewhere: nobody can read the inbox without it.
        pub key: Vec<Secret> = secrets(seal_key).example("{ file = \"secrets/inbox\" }"),
        /// Where the data keys are kept that `key` encrypts. With SQLite a file; not given: keys.db beside the inbox file. With
        /// PostgreSQL the URL of a database of their own, reached with the password and the certificates of this section; not given:
        /// a schema of their own beside the inbox's, with `_keys` behind its name.
        pub keys: Option<KeysPlace> = text(keys_place).example("\"data/keys.db\"").optional(),
        /// How long done entries are kept. Unfinished ones are never deleted.
        pub retention: Duration = duration().default("30d").between("1m", "3650d"),
        /// How long it is kept what operators did (`linxo-webhook inbox audit`).
        pub audit_retention: Duration = duration().default("365d").between("1d", "3650d"),
        /// Unfinished entries above which new events are answered 503.
        pub max_waiting: u64 = number().default("1000000").between("1", "1000000000"),
        /// Free space on the disk of the inbox, or of its journal, below which new events are answered 503.
        pub min_free_disk: u64 = size().default("256 MiB").between("0 B", "100 TiB"),
        /// Refused requests that are kept for inspection (`linxo-webhook inbox refused`). 0: none.
        pub refused: u64 = number().default("1000").between("0", "100000"),
    }
    check(at) {
        let keys = keys.as_ref().ok().and_then(Option::as_ref);
        match &store {
            Ok(Store::Postgres(server)) => fitting(at, server, keys),
            Ok(Store::Sqlite(_)) if matches!(keys, Some(KeysPlace::Server(_))) => {
                let hint = "name a file such as \"data/keys.db\", or leave it out: keys.db beside the inbox file";
                at.flawed("keys", Flaw::new("names PostgreSQL, and inbox.url names a file", hint));
            }
            _ => {}
        }
        at.together("certificate", "certificate_key");
    }
}

/// The store behind the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// One SQLite file, owned by one process.
    Sqlite(PathBuf),
    /// PostgreSQL, shared by any number of processes.
    Postgres(Box<Server>),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(server) => server.fmt(f),
        }
    }
}

impl FromStr for Store {
    type Err = Flaw;

    fn from_str(text: &str) -> Result<Self, Flaw> {
        const HINT: &str = "write \"sqlite:data/inbox.db\", \"sqlite:/var/lib/linxo-webhook/inbox.db\" or \"postgres://user@host/database\"";
        if is_url(text) {
            return Server::parse(text).map(|server| Self::Postgres(Box::new(server)));
        }
        let Some(path) = text.strip_prefix("sqlite:") else {
            return Err(Flaw::new("must begin with `sqlite:` or `postgres://`", HINT));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.ends_with('/') {
            return Err(Flaw::new("does not name a file", HINT));
        }
        if path.starts_with(':') || path.contains('?') {
            return Err(Flaw::new(
                "must be the plain path of a file: an event that was answered has to be on disk",
                HINT,
            ));
        }
        Ok(Self::Sqlite(path.into()))
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

/// Where data keys are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysPlace {
    /// In a file, beside an inbox in a file.
    File(PathBuf),
    /// In a database of their own, beside an inbox on PostgreSQL.
    Server(Box<Server>),
}

impl fmt::Display for KeysPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

fn keys_place(text: &str) -> Result<KeysPlace, Flaw> {
    if is_url(text) {
        return Server::parse_keys(text).map(|server| KeysPlace::Server(Box::new(server)));
    }
    if text.is_empty() || text.ends_with('/') {
        return Err(Flaw::new("does not name a file", "write \"data/keys.db\""));
    }
    Ok(KeysPlace::File(text.into()))
}

/// Whether a text is meant as a URL of PostgreSQL.
fn is_url(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

/// What cannot be true beside PostgreSQL.
fn fitting(at: &mut At<'_, '_>, server: &Server, keys: Option<&KeysPlace>) {
    let named = match keys {
        Some(KeysPlace::Server(keys)) => Some(keys),
        _ => None,
    };
    if let Some(KeysPlace::File(_)) = keys {
        let hint = "remove it, and the data keys are in a schema of their own, where every receiver finds them; or name a database: \
                    \"postgres://user@host/database\"";
        at.flawed("keys", Flaw::new("is a file, and inbox.url names PostgreSQL", hint));
    }
    if named.is_some_and(|keys| keys.is_same(server)) {
        let hint = "name another database, or another schema behind the `?`: whoever copies the inbox must not copy its keys with it";
        at.flawed("keys", Flaw::new("names the tables of the inbox itself", hint));
    }
    if named.is_none() && at.is_given("key") && server.keys().schema().len() > LONGEST_SCHEMA {
        let hint = "take a schema of at most 58 characters, or say in inbox.keys where the data keys are";
        at.flawed("url", Flaw::new("has a schema whose name is too long to put `_keys` behind it", hint));
    }
    for name in ["authorities", "certificate", "certificate_key"] {
        if at.is_given(name) && !server.is_encrypted() && !named.is_some_and(|keys| keys.is_encrypted()) {
            let hint = "remove it, or name a host in inbox.url, without sslmode=disable";
            at.flawed(name, Flaw::new("is for an encrypted connection, and inbox.url asks for none", hint));
        }
    }
}

/// Bytes of a name that PostgreSQL keeps.
const LONGEST_SCHEMA: usize = 63;

impl Settings {
    /// The file of a SQLite inbox.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.store {
            Store::Sqlite(path) => Some(path),
            Store::Postgres(_) => None,
        }
    }

    /// The file of the data keys of a SQLite inbox. With PostgreSQL there is none, and nothing makes it.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        match &self.keys {
            Some(KeysPlace::File(path)) => path.clone(),
            _ => self.file().map_or(self.folder.as_path(), folder::of).join("keys.db"),
        }
    }

    /// Where the data keys of an inbox on this server are.
    pub(crate) fn keys_server(&self, server: &Server) -> Server {
        match &self.keys {
            Some(KeysPlace::Server(keys)) => (**keys).clone(),
            _ => server.keys(),
        }
    }

    /// Where the data keys are, in words.
    #[must_use]
    pub fn keys_place(&self) -> String {
        match &self.store {
            Store::Sqlite(_) => self.keys_file().display().to_string(),
            Store::Postgres(server) => format!("the schema {} in PostgreSQL", self.keys_server(server).schema()),
        }
    }

    /// The folder of the journal; `None`: there is none.
    #[must_use]
    pub fn journal_folder(&self) -> Option<PathBuf> {
        match &self.journal {
            Some(Journal::Off) => None,
            Some(Journal::Folder(path)) => Some(path.clone()),
            None => self.journal_beside(),
        }
    }

    /// The folder of a journal that is named nowhere.
    pub(crate) fn journal_beside(&self) -> Option<PathBuf> {
        Some(self.file()?.with_extension("journal"))
    }

    /// The socket for commands on this machine.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        match &self.store {
            Store::Sqlite(file) => folder::beside(file, "-control"),
            Store::Postgres(_) => self.folder.join("inbox-control"),
        }
    }

    /// The files that connections to the store are made from, secrets apart.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.authorities.iter().chain(&self.certificate).chain(&self.certificate_key).map(PathBuf::as_path)
    }

    /// The PEM files of a client certificate and its key.
    #[must_use]
    pub fn client_certificate(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.certificate_key.as_deref())
    }
}
