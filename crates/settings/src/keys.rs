//! What was declared: every table of the file and every key in it, each with its facts.
//!
//! Known names, the schema, the reference and the hints of problems are made of this. It is filled by
//! [`Section::declare`](crate::Section::declare). A path is written with dots; `sink.*` stands for one `[[sink]]`.

/// What a value is: its form in the file, and what people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text, not empty.
    Text,
    /// One of these words.
    Words(Vec<Word>),
    /// A whole number.
    Number,
    /// `true` or `false`
    Flag,
    /// `"5s"`
    Duration,
    /// `"8 MiB"`
    Size,
    /// `"127.0.0.1:9090"`
    Address,
    /// `"127.0.0.1:9090"`, or `"off"`.
    AddressOrOff,
    /// An absolute URL. What stands behind `?` or before `@` is never shown.
    Url,
    /// A path of a file.
    Path,
    /// A list of paths.
    Paths,
    /// A list of networks or addresses.
    Networks,
    /// A list of texts.
    Texts,
    /// `{ file = "..." }` or `{ env = "..." }`
    Secret,
    /// One secret, or a list of them, the newest first.
    Secrets,
    /// `{ "X-Team" = "bank", "X-Key" = { file = "..." } }`
    Pairs,
}

/// One word that a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it is written.
    pub word: &'static str,
    /// A sentence that says what it means.
    pub doc: &'static str,
}

impl Shape {
    /// Whether a value is a list of texts; in the environment, such lists are separated by commas.
    pub(crate) const fn is_list(&self) -> bool {
        matches!(self, Self::Paths | Self::Networks | Self::Texts)
    }

    /// What is expected, as a hint; `None` where only the key's own sentence can say it.
    fn expectation(&self) -> Option<String> {
        let text = match self {
            Self::Text => return None,
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| word.word).collect();
                return Some(format!("one of: {}", words.join(", ")));
            }
            Self::Number => "write a whole number such as 100",
            Self::Flag => "write true or false, without quotation marks",
            Self::Duration => "write a duration such as \"250ms\", \"5s\" or \"1h 30m\"",
            Self::Size => "write a size such as \"512 KiB\" or \"8 MiB\"",
            Self::Address => "write an address such as \"0.0.0.0:8443\" or \"[::]:8443\"",
            Self::AddressOrOff => "write an address such as \"127.0.0.1:9090\", or \"off\"",
            Self::Url => "write a URL such as \"https://app.internal/linxo\"",
            Self::Path => "write the path of a file",
            Self::Paths => "write a list such as [\"certs/ca.pem\"]; in the environment, separate with commas",
            Self::Texts => "write a list such as [\"one\", \"two\"]; in the environment, separate with commas",
            Self::Networks => {
                "write a list such as [\"192.0.2.0/24\", \"2001:db8::/32\"]; in the environment, separate with commas"
            }
            Self::Pairs => {
                "write a table such as { \"X-Team\" = \"bank\", \"X-Key\" = { file = \"...\" } } into the file"
            }
            Self::Secret | Self::Secrets => "write { file = \"...\" } or { env = \"...\" }",
        };
        Some(text.to_owned())
    }
}

/// Everything about a key but its name and its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What its value is.
    pub shape: Shape,
    /// As it would be written in the environment; `None`: optional or required.
    pub default: Option<&'static str>,
    /// A value as it would be written in the file, for the reference, where there is no default.
    pub example: Option<&'static str>,
    /// Smallest and largest value, as text of the same shape.
    pub limits: Option<(&'static str, &'static str)>,
    /// Words that will mean something in a later version.
    pub later: &'static [&'static str],
    /// Whether the key must be given.
    pub is_required: bool,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The last part of its path.
    pub name: &'static str,
    /// Sentences for people, one paragraph a line.
    pub doc: String,
    /// The rest.
    pub facts: Facts,
    /// Only where the key of this name has this word.
    pub only: Option<(&'static str, &'static str)>,
}

impl Key {
    /// What the key expects, as a hint.
    pub(crate) fn expectation(&self) -> String {
        self.facts.shape.expectation().unwrap_or_else(|| {
            let end = self.doc.find(['.', '\n']).unwrap_or(self.doc.len());
            self.doc.get(..end).unwrap_or_default().to_owned()
        })
    }

    /// Sentences for people, with the limits.
    pub(crate) fn sentences(&self) -> String {
        match self.facts.limits {
            Some((least, most)) => format!("{} From {least} to {most}.", self.doc),
            None => self.doc.clone(),
        }
    }
}

/// How often a table occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Once, and where nothing of it is given, its defaults hold.
    Once,
    /// Once or not at all.
    Optional,
    /// A list.
    List {
        /// The key by whose value problems name an entry.
        naming: &'static str,
        /// Keys and values of the only entry where no list is given.
        default: &'static [(&'static str, &'static str)],
    },
    /// A list that may be empty, in whose place one secret alone may stand.
    ListOrSecret {
        /// The key by whose value problems name an entry.
        naming: &'static str,
    },
}

/// One table of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// `tls.clients`, `sink.*`; empty for the file as a whole.
    pub path: String,
    /// Sentences for people.
    pub doc: String,
    /// How often it occurs.
    pub kind: TableKind,
    /// Its keys, in the order of the reference. A name occurs several times where each is for another word of a key.
    pub keys: Vec<Key>,
}

impl Table {
    /// The key by whose value problems name an entry, where this is a list.
    pub(crate) const fn naming(&self) -> Option<&'static str> {
        match self.kind {
            TableKind::List { naming, .. } | TableKind::ListOrSecret { naming } => Some(naming),
            TableKind::Once | TableKind::Optional => None,
        }
    }

    /// Whether one secret alone may stand for all entries of this list.
    pub(crate) const fn may_be_secret(&self) -> bool {
        matches!(self.kind, TableKind::ListOrSecret { .. })
    }
}

/// Every table, in the order of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(Vec<Table>);

impl Tables {
    /// No table but that of the file as a whole.
    pub(crate) fn new(doc: &str) -> Self {
        let root = Table { path: String::new(), doc: plain(doc), kind: TableKind::Once, keys: Vec::new() };
        Self(vec![root])
    }

    /// Where a section declares its keys: the file as a whole.
    pub(crate) fn branch(&mut self) -> Branch<'_> {
        Branch { tables: self, path: String::new(), only: None }
    }

    /// Every table.
    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    /// The table with this path.
    pub(crate) fn table(&self, path: &str) -> Option<&Table> {
        self.iter().find(|table| table.path == path)
    }

    /// The key with this path; the first, where it is declared for several words of another key.
    pub(crate) fn find(&self, path: &str) -> Option<&Key> {
        self.find_all(path).next()
    }

    /// The key with this path, as it is declared for each word of another key.
    pub(crate) fn find_all(&self, path: &str) -> impl Iterator<Item = &Key> {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        self.table(section).into_iter().flat_map(|table| &table.keys).filter(move |key| key.name == name)
    }

    /// Whether there are keys or tables below this path.
    pub(crate) fn is_section(&self, path: &str) -> bool {
        let is_below = |table: &Table| table.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.iter().any(|table| table.path == path || is_below(table))
    }

    /// Names of the keys and tables directly below a table, in the order of the reference.
    pub(crate) fn names_in(&self, section: &str) -> Vec<&str> {
        let keys = self.table(section).into_iter().flat_map(|table| table.keys.iter().map(|key| key.name));
        let below = self.iter().filter_map(|table| {
            let rest = if section.is_empty() {
                Some(table.path.as_str())
            } else {
                table.path.strip_prefix(section)?.strip_prefix('.')
            };
            rest?.split('.').next().filter(|name| !name.is_empty() && *name != "*")
        });
        let mut names = Vec::new();
        for name in keys.chain(below) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// A table that is being declared.
#[derive(Debug)]
pub struct Branch<'t> {
    tables: &'t mut Tables,
    path: String,
    only: Option<(&'static str, &'static str)>,
}

impl Branch<'_> {
    /// Adds a key.
    pub fn key(&mut self, name: &'static str, doc: &str, facts: Facts) {
        let key = Key { name, doc: plain(doc), facts, only: self.only };
        let path = &self.path;
        if let Some(table) = self.tables.0.iter_mut().find(|table| table.path == *path) {
            table.keys.push(key);
        }
    }

    /// Adds a table below this one.
    pub fn table(&mut self, name: &str, doc: &str, kind: TableKind) -> Branch<'_> {
        let mut path = join(&self.path, name);
        if matches!(kind, TableKind::List { .. } | TableKind::ListOrSecret { .. }) {
            path.push_str(".*");
        }
        self.tables.0.push(Table { path: path.clone(), doc: plain(doc), kind, keys: Vec::new() });
        Branch { tables: self.tables, path, only: None }
    }

    /// The same table, for keys that mean something only where the key of this name has this word.
    pub fn only(&mut self, name: &'static str, word: &'static str) -> Branch<'_> {
        Branch { tables: self.tables, path: self.path.clone(), only: Some((name, word)) }
    }
}

/// `listener` and `path` give `listener.path`.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A doc comment with its paragraphs as one line each.
fn plain(doc: &str) -> String {
    let mut paragraphs = vec![String::new()];
    for line in doc.lines().map(str::trim) {
        match paragraphs.last_mut() {
            Some(last) if !line.is_empty() => {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(line);
            }
            _ => paragraphs.push(String::new()),
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { shape: Shape::Text, default: None, example: None, limits: None, later: &[], is_required: false }
    }

    fn tables() -> Tables {
        let mut tables = Tables::new("Everything.");
        let mut root = tables.branch();
        let mut tls = root.table("tls", " The lock.\n Its key.\n\n More.\n", TableKind::Once);
        tls.key("key", "Where it lies. It is iron.", facts());
        tls.table("clients", "Whose.", TableKind::Once).key("mode", "How.", facts());
        let mut sink = root.table("sink", "Where to.", TableKind::List { naming: "name", default: &[] });
        sink.key("name", "Its name.", facts());
        sink.only("type", "file").key("path", "Where.", facts());
        tables
    }

    #[test]
    fn knows_what_is_below_what() {
        let tables = tables();
        assert_eq!(tables.names_in(""), ["tls", "sink"]);
        assert_eq!(tables.names_in("tls"), ["key", "clients"]);
        assert_eq!(tables.names_in("sink.*"), ["name", "path"]);
        assert!(tables.is_section("sink.*") && tables.is_section("sink") && tables.is_section("tls.clients"));
        assert!(!tables.is_section("tls.key") && !tables.is_section("tl"));
        assert_eq!(tables.find("sink.*.path").unwrap().only, Some(("type", "file")));
        assert!(tables.find("tls.keys").is_none() && tables.find("nothing").is_none());
    }

    #[test]
    fn paragraphs_are_lines() {
        assert_eq!(tables().table("tls").unwrap().doc, "The lock. Its key.\nMore.");
    }

    #[test]
    fn a_text_is_explained_by_its_first_sentence() {
        assert_eq!(tables().find("tls.key").unwrap().expectation(), "Where it lies");
    }
}
