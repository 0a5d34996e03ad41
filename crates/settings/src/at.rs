//! Takes values out of the tree one by one; what is wrong is recorded, so that all of it is reported at once.
//!
//! Every reading method looks its key up in the table of keys, falls back to the default written there and checks the
//! limits written there. `Err(Reported)` means: a problem was recorded, carry on with the next key.

use super::{
    keys::{self, Key, Kind},
    networks::{self, Networks},
    origin::Environment,
    problems::{Problem, quoted},
    units,
};
use base::secret::Secret;
use config::{Value, ValueKind};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// Largest file that is taken for a secret, in bytes.
const LARGEST_SECRET: usize = 64 * 1024;

/// A problem was recorded; there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported;

/// What reading a key gives.
pub(super) type Read<T> = Result<T, Reported>;

/// Why a text is not what it should be.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Continues the key: "must begin with `/`".
    pub(super) reason: String,
    /// What to do, where the kind of the key does not say it already.
    pub(super) hint: Option<String>,
}

impl Flaw {
    /// A flaw with its remedy.
    pub(super) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: Some(hint.into()) }
    }
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self { reason, hint: None }
    }
}

impl From<&str> for Flaw {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// The tree and what was found wrong with it so far.
///
/// No `Debug`: the environment holds secrets.
pub(super) struct Reader<'a> {
    tree: &'a Value,
    environment: &'a Environment,
    /// In the order in which they were found.
    pub(super) problems: Vec<Problem>,
    /// What is allowed, but should be known.
    pub(super) warnings: Vec<String>,
    /// Files that secrets were read from.
    pub(super) secret_files: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    /// Starts with the problems of the tree itself.
    pub(super) fn new(tree: &'a Value, environment: &'a Environment, problems: Vec<Problem>) -> Self {
        Self { tree, environment, problems, warnings: Vec::new(), secret_files: Vec::new() }
    }

    /// A section that occurs once.
    pub(super) fn section(&mut self, pattern: &'static str) -> Section<'_, 'a> {
        Section { reader: self, path: pattern.to_owned(), pattern }
    }

    /// One entry of a list of sections.
    pub(super) fn entry(&mut self, list: &'static str, pattern: &'static str, index: usize) -> Section<'_, 'a> {
        Section { reader: self, path: format!("{list}.{index}"), pattern }
    }

    /// The value at a path, if one was given.
    pub(super) fn at(&self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.tree, |value, name| match &value.kind {
            ValueKind::Table(table) => table.get(name),
            ValueKind::Array(array) => array.get(name.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Records a problem of several keys together, or of a value that cannot be shown.
    pub(super) fn report(&mut self, problem: Problem) -> Reported {
        self.problems.push(problem);
        Reported
    }

    /// Reports reserved keys that were given something.
    pub(super) fn refuse_later(&mut self) {
        for key in keys::KEYS.iter().filter(|key| key.kind == Kind::Later) {
            let Some(value) = self.at(key.path) else { continue };
            let is_empty = match &value.kind {
                ValueKind::Array(list) => list.is_empty(),
                ValueKind::String(text) => text.is_empty(),
                _ => false,
            };
            if !is_empty {
                let problem = Problem::new(key.path, "is not available in this version")
                    .from(value.origin())
                    .hint("remove the key");
                self.problems.push(problem);
            }
        }
    }

    /// A secret's text, from its file or variable.
    fn secret_at(&mut self, path: &str, value: &Value) -> Read<Secret> {
        const HINT: &str = "write { file = \"...\" } or { env = \"...\" }";
        let problem = |reason: String| Problem::new(path, reason).from(value.origin()).hint(HINT);
        let ValueKind::Table(table) = &value.kind else {
            return Err(self.report(problem("must not be written into the configuration itself".to_owned())));
        };
        let mut members = table.iter();
        let (Some((name, Value { kind: ValueKind::String(place), .. })), None) = (members.next(), members.next())
        else {
            return Err(self.report(problem("needs exactly one of `file` and `env`, as text".to_owned())));
        };
        let secret = match name.as_str() {
            "file" => self.secret_file(path, Path::new(place)),
            "env" => match self.environment.get(place) {
                None => Err(format!("names the variable {place}, which is not set")),
                Some(secret) if secret.expose().contains(char::REPLACEMENT_CHARACTER) => {
                    Err(format!("names the variable {place}, which is not valid UTF-8"))
                }
                Some(secret) if secret.is_empty() => Err(format!("names the variable {place}, which is empty")),
                Some(secret) => Ok(secret.clone()),
            },
            other => return Err(self.report(problem(format!("cannot come from `{other}`")))),
        };
        secret.map_err(|reason| self.report(Problem::new(path, reason).from(value.origin())))
    }

    /// The text of a file without its last line end.
    fn secret_file(&mut self, key: &str, path: &Path) -> Result<Secret, String> {
        self.secret_files.push(path.to_owned());
        let name = path.display();
        let unreadable = |error: io::Error| format!("names the file {name}, which cannot be read: {error}");
        let file = File::open(path).map_err(unreadable)?;
        self.warn_of_readers(key, path, &file);
        // Room for all that is read: growing would leave copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_SECRET + 1));
        let length = file.take(LARGEST_SECRET as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if length > LARGEST_SECRET {
            return Err(format!("names the file {name}, which is too large for a secret"));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_invalid| format!("names the file {name}, which is not valid UTF-8"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!("names the file {name}, which is empty"));
        }
        Ok(Secret::new(text.to_owned()))
    }

    /// Warns where anybody may open a file that holds a secret, or its group may change it. That its group may read it is
    /// how secrets are handed to a service: Kubernetes mounts them as root's, with the group of the pod.
    fn warn_of_readers(&mut self, key: &str, path: &Path, file: &File) {
        if let Ok(about) = file.metadata()
            && about.permissions().mode() & 0o027 != 0
        {
            let mode = about.permissions().mode() & 0o777;
            let name = path.display();
            self.warnings.push(format!(
                "{key}: anybody on this machine can open {name}, or its group can change it (mode {mode:04o}): \
                 `chmod o=,g-w {name}`"
            ));
        }
    }
}

/// A section, or one entry of a list of sections.
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: String,
    pattern: &'static str,
}

impl<'a> Section<'_, 'a> {
    /// Text, turned into what it stands for.
    pub(super) fn text<T>(&mut self, name: &str, check: impl FnOnce(&str) -> Result<T, Flaw>) -> Read<T> {
        let read = self.parsed(name, |_, text| check(text));
        self.required(name, read)
    }

    /// Text as it is; `None` where nothing was given.
    pub(super) fn optional_text(&mut self, name: &str) -> Read<Option<String>> {
        self.parsed(name, |_, text| Ok(text.to_owned()))
    }

    /// One of the words of the key.
    pub(super) fn word<T>(&mut self, name: &str, meaning: impl FnOnce(&str) -> Option<T>) -> Read<T> {
        let read = self.parsed(name, |key, text| {
            if key.later.contains(&text) {
                return Err(Flaw::from("is not available in this version"));
            }
            meaning(text).ok_or_else(|| Flaw::from("is not one of the known words"))
        });
        self.required(name, read)
    }

    /// A whole number within the limits of the key.
    pub(super) fn integer<T: TryFrom<u64>>(&mut self, name: &str) -> Read<T> {
        let number = |text: &str| text.parse::<u64>().map_err(|_not_one| "is not a whole number".to_owned());
        let read = self.parsed(name, |key, text| {
            within(key, text, number)?.try_into().map_err(|_too_large| Flaw::from("is too large"))
        });
        self.required(name, read)
    }

    /// A duration within the limits of the key.
    pub(super) fn duration(&mut self, name: &str) -> Read<Duration> {
        let read = self.parsed(name, |key, text| within(key, text, units::duration));
        self.required(name, read)
    }

    /// A size in bytes within the limits of the key.
    pub(super) fn size(&mut self, name: &str) -> Read<u64> {
        let read = self.parsed(name, |key, text| within(key, text, units::size));
        self.required(name, read)
    }

    /// An address to bind.
    pub(super) fn address(&mut self, name: &str) -> Read<SocketAddr> {
        let read = self.parsed(name, |_, text| address(text));
        self.required(name, read)
    }

    /// An address to bind, or `None` for `off`.
    pub(super) fn address_or_off(&mut self, name: &str) -> Read<Option<SocketAddr>> {
        let read = self.parsed(name, |_, text| if text == "off" { Ok(None) } else { address(text).map(Some) });
        self.required(name, read)
    }

    /// A path; whether there is something is for the caller to say.
    pub(super) fn path(&mut self, name: &str) -> Read<PathBuf> {
        let read = self.parsed(name, |_, text| Ok(PathBuf::from(text)));
        self.required(name, read)
    }

    /// A list of texts, each turned into what it stands for.
    pub(super) fn texts<T>(&mut self, name: &str, check: impl Fn(&str) -> Result<T, Flaw>) -> Read<Vec<T>> {
        let mut texts = Vec::new();
        for text in self.list(name)? {
            match check(text) {
                Ok(value) => texts.push(value),
                Err(flaw) => {
                    let reason = format!("holds {}, which {}", quoted(text), flaw.reason);
                    return Err(self.flawed(name, Flaw { reason, hint: flaw.hint }));
                }
            }
        }
        Ok(texts)
    }

    /// A list of files that can be read.
    pub(super) fn readable_files(&mut self, name: &str) -> Read<Vec<PathBuf>> {
        let list = self.list(name)?;
        let files = list.into_iter().map(|file| self.must_be_readable(name, Path::new(file))).collect::<Vec<_>>();
        files.into_iter().collect()
    }

    /// A list of networks.
    pub(super) fn networks(&mut self, name: &str) -> Read<Networks> {
        let list = self.list(name)?;
        let networks = list.into_iter().map(|text| {
            networks::network(text).map_err(|flaw| {
                let hint = "write networks such as \"192.0.2.0/24\" or \"2001:db8::/32\", or single addresses";
                self.flawed(name, Flaw::new(format!("has the entry {}, which {flaw}", quoted(text)), hint))
            })
        });
        let networks = networks.collect::<Vec<_>>();
        networks.into_iter().collect()
    }

    /// A list as it was given; in the environment, separated by commas; empty where nothing was.
    fn list(&mut self, name: &str) -> Read<Vec<&'a str>> {
        let (key, path) = self.key(name)?;
        let Some(value) = self.reader.at(&path) else { return Ok(Vec::new()) };
        let list: Option<Vec<&'a str>> = match &value.kind {
            ValueKind::Array(list) => list
                .iter()
                .map(|entry| if let ValueKind::String(text) = &entry.kind { Some(text.as_str()) } else { None })
                .collect(),
            ValueKind::String(text) if self.is_variable(value) => {
                Some(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect())
            }
            _ => None,
        };
        list.ok_or_else(|| {
            let problem = Problem::new(&path, "must be a list of texts").from(value.origin()).hint(expectation(key));
            self.reader.report(problem)
        })
    }

    /// Reports a file that cannot be opened for reading.
    pub(super) fn must_be_readable(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
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
    pub(super) fn must_be_private(&mut self, name: &str, file: &Path) -> Read<PathBuf> {
        let path = self.must_be_readable(name, file)?;
        if let Ok(opened) = File::open(file) {
            let key = format!("{}.{name}", self.path);
            self.reader.warn_of_readers(&key, file, &opened);
        }
        Ok(path)
    }

    /// Reports a folder that does not exist.
    pub(super) fn must_be_folder(&mut self, name: &str, folder: &Path) -> Read<()> {
        match fs::metadata(folder) {
            Ok(about) if about.is_dir() => Ok(()),
            _ => Err(self.flawed(
                name,
                Flaw::new(
                    format!("lies in {}, which is no folder that exists", folder.display()),
                    "make the folder first",
                ),
            )),
        }
    }

    /// A secret; `None` where nothing was given.
    pub(super) fn secret(&mut self, name: &str, check: impl Fn(&str) -> Result<(), Flaw>) -> Read<Option<Secret>> {
        let (_, path) = self.key(name)?;
        let Some(value) = self.reader.at(&path) else { return Ok(None) };
        self.checked_secret(&path, value, &check).map(Some)
    }

    /// Secrets that are valid side by side, the newest first.
    pub(super) fn secrets(&mut self, name: &str, check: impl Fn(&str) -> Result<(), Flaw>) -> Read<Vec<Secret>> {
        let (_, path) = self.key(name)?;
        let Some(value) = self.reader.at(&path) else { return Ok(Vec::new()) };
        let ValueKind::Array(list) = &value.kind else {
            return self.checked_secret(&path, value, &check).map(|secret| vec![secret]);
        };
        let secrets: Vec<_> = list
            .iter()
            .enumerate()
            .map(|(index, value)| self.checked_secret(&format!("{path}.{index}"), value, &check))
            .collect();
        secrets.into_iter().collect()
    }

    /// Turns nothing into a problem.
    pub(super) fn required<T>(&mut self, name: &str, read: Read<Option<T>>) -> Read<T> {
        match read? {
            Some(value) => Ok(value),
            None => Err(self.flawed(name, Flaw::from("is required"))),
        }
    }

    /// Reports keys that were given but mean something only beside another value of `name`.
    pub(super) fn refuse_misplaced(&mut self, name: &str, value: &str) {
        let pattern = self.pattern;
        for key in keys::KEYS.iter().filter(|key| key.section() == pattern) {
            let Some((beside, wanted)) = key.only else { continue };
            if beside == name && wanted != value && self.is_given(key.name()) {
                self.flawed(
                    key.name(),
                    Flaw::new(
                        format!("is only for {name} = \"{wanted}\""),
                        format!("remove the key, or set {name} = \"{wanted}\""),
                    ),
                );
            }
        }
    }

    /// Whether the key was given.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.reader.at(&format!("{}.{name}", self.path)).is_some()
    }

    /// Records a flaw of a key with its value (if that may be shown) and origin.
    pub(super) fn flawed(&mut self, name: &str, flaw: Flaw) -> Reported {
        let path = format!("{}.{name}", self.path);
        let key = keys::find(&format!("{}.{name}", self.pattern));
        let value = self.reader.at(&path);
        let shown = value.and_then(|value| match (&value.kind, key.map(|key| key.kind)) {
            (_, None | Some(Kind::Secret | Kind::Secrets)) => None,
            // Credentials may stand before the `@` or behind the `?`.
            (ValueKind::String(text), Some(Kind::Url)) if text.contains(['@', '?']) => None,
            (ValueKind::String(text), _) if text.contains("://") && text.contains(['@', '?']) => None,
            (ValueKind::String(text), _) => Some(quoted(text)),
            (ValueKind::I64(_) | ValueKind::Boolean(_) | ValueKind::Float(_), _) => Some(value.to_string()),
            _ => None,
        });
        let mut problem = Problem::new(path, flaw.reason).from(value.and_then(Value::origin));
        problem.value = shown;
        problem.hint = flaw.hint.or_else(|| key.map(expectation));
        self.reader.report(problem)
    }

    fn checked_secret(&mut self, path: &str, value: &Value, check: &impl Fn(&str) -> Result<(), Flaw>) -> Read<Secret> {
        let secret = self.reader.secret_at(path, value)?;
        match check(secret.expose()) {
            Ok(()) => Ok(secret),
            Err(flaw) => {
                let mut problem = Problem::new(path, flaw.reason).from(value.origin());
                problem.hint = flaw.hint;
                Err(self.reader.report(problem))
            }
        }
    }

    /// The value as text, or the default, through `parse`.
    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&Key, &str) -> Result<T, Flaw>) -> Read<Option<T>> {
        let (key, path) = self.key(name)?;
        let text = match self.reader.at(&path) {
            None => match key.default {
                None => return Ok(None),
                Some(default) => Ok(default.to_owned()),
            },
            Some(value) => as_text(key, value, self.is_variable(value)),
        };
        let parsed = text.and_then(|text| {
            if text.is_empty() {
                return Err(Flaw::from("is empty"));
            }
            if text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
                return Err(Flaw::from("has control characters, or is not valid UTF-8"));
            }
            parse(key, &text)
        });
        parsed.map(Some).map_err(|flaw| self.flawed(name, flaw))
    }

    fn key(&mut self, name: &str) -> Read<(&'static Key, String)> {
        let path = format!("{}.{name}", self.path);
        match keys::find(&format!("{}.{name}", self.pattern)) {
            Some(key) => Ok((key, path)),
            // Every test that loads the defaults would show this.
            None => Err(self.reader.report(Problem::new(path, "is missing in the program's own table of keys"))),
        }
    }

    fn is_variable(&self, value: &'a Value) -> bool {
        value.origin().is_some_and(|origin| self.reader.environment.contains_key(origin))
    }
}

/// A plain value as text, if its TOML type fits the key.
fn as_text(key: &Key, value: &Value, is_variable: bool) -> Result<String, Flaw> {
    let found = match &value.kind {
        ValueKind::String(text) if is_variable || key.kind != Kind::Integer => return Ok(text.clone()),
        ValueKind::I64(number) if key.kind == Kind::Integer => return Ok(number.to_string()),
        ValueKind::I64(_) if matches!(key.kind, Kind::Duration | Kind::Size) => return Err("has no unit".into()),
        ValueKind::String(_) => "text",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a fraction",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
        ValueKind::Nil => "nothing",
    };
    let wanted = if key.kind == Kind::Integer { "a whole number" } else { "text between quotation marks" };
    Err(format!("must be {wanted}, not {found}").into())
}

/// Reads a value and holds it against the limits of its key.
fn within<T: PartialOrd>(key: &Key, text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Flaw> {
    let value = read(text)?;
    let Some((least, most)) = key.limits else { return Ok(value) };
    if value < read(least)? || value > read(most)? {
        return Err(Flaw::new("is out of range", format!("from {least} to {most}")));
    }
    Ok(value)
}

fn address(text: &str) -> Result<SocketAddr, Flaw> {
    text.parse().map_err(|_not_one| Flaw::from("is not an IP address with a port"))
}

/// What a key expects, as a hint.
fn expectation(key: &Key) -> String {
    match key.kind {
        Kind::Text | Kind::Later => key.doc.to_owned(),
        Kind::Word(words) => format!("one of: {}", words.join(", ")),
        Kind::Integer => "write a whole number such as 100".to_owned(),
        Kind::Duration => "write a duration such as \"250ms\", \"5s\" or \"1h 30m\"".to_owned(),
        Kind::Size => "write a size such as \"512 KiB\" or \"8 MiB\"".to_owned(),
        Kind::Address => "write an address such as \"0.0.0.0:8443\" or \"[::]:8443\"".to_owned(),
        Kind::AddressOrOff => "write an address such as \"127.0.0.1:9090\", or \"off\"".to_owned(),
        Kind::Url => "write a URL such as \"https://app.internal/linxo\"".to_owned(),
        Kind::Path => "write the path of a file".to_owned(),
        Kind::Paths => "write a list such as [\"certs/ca.pem\"]; in the environment, separate with commas".to_owned(),
        Kind::Texts => "write a list such as [\"one\", \"two\"]; in the environment, separate with commas".to_owned(),
        Kind::Networks => {
            "write a list such as [\"192.0.2.0/24\", \"2001:db8::/32\"]; in the environment, separate with commas"
                .to_owned()
        }
        Kind::Secret | Kind::Secrets => "write { file = \"...\" } or { env = \"...\" }".to_owned(),
    }
}
