//! Reading at one place of the tree: a section, or one entry of a list of sections.
//!
//! Every reading method is told the facts of its key, falls back to the default and checks the limits that stand there.
//! What is wrong is recorded, so that all of it is reported at once: `Err(Reported)` means that a problem was recorded,
//! and the caller goes on with the next key.

use crate::{
    flaw::Flaw,
    keys::{Facts, Key, Shape, Tables, join},
    problem::{Place, Problem, entry_title, quoted},
    tree::{Content, Node},
    uses::{Own, Use, Written},
    variables::Environment,
};
use std::path::{Path, PathBuf};

/// A problem was recorded; there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported;

/// What reading a key gives.
pub type Read<T> = Result<T, Reported>;

/// The tree, and what was found in it so far.
///
/// No `Debug`: the environment holds secrets.
pub(crate) struct Reader<'a> {
    pub(crate) tree: &'a Node,
    pub(crate) environment: &'a Environment,
    pub(crate) tables: &'a Tables,
    /// In the order in which they were found.
    pub(crate) problems: Vec<Problem>,
    /// What was good until it ended.
    pub(crate) ended: Vec<Problem>,
    /// What is allowed, but should be known.
    pub(crate) warnings: Vec<String>,
    /// Files that secrets were read from.
    pub(crate) secret_files: Vec<PathBuf>,
    /// Files that are named, for whatever use.
    pub(crate) uses: Vec<Use>,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(
        tree: &'a Node,
        environment: &'a Environment,
        tables: &'a Tables,
        problems: Vec<Problem>,
    ) -> Self {
        Self {
            tree,
            environment,
            tables,
            problems,
            ended: Vec::new(),
            warnings: Vec::new(),
            secret_files: Vec::new(),
            uses: Vec::new(),
        }
    }

    /// The file as a whole.
    pub(crate) fn root(&mut self) -> At<'_, 'a> {
        At { reader: self, path: String::new(), pattern: String::new(), title: String::new() }
    }
}

/// A place in the tree. Names of keys are relative to it, and may have dots (`sender.confirm`).
#[expect(missing_debug_implementations, reason = "the environment holds secrets")]
pub struct At<'r, 'a> {
    pub(crate) reader: &'r mut Reader<'a>,
    /// `sink.0`
    path: String,
    /// `sink.*`
    pattern: String,
    /// What people call it: `sink "app"`.
    title: String,
}

impl<'a> At<'_, 'a> {
    /// A section below this one.
    pub(crate) fn section(&mut self, name: &str) -> At<'_, 'a> {
        At {
            path: join(&self.path, name),
            pattern: join(&self.pattern, name),
            title: join(&self.title, name),
            reader: self.reader,
        }
    }

    /// One entry of a list of sections. Its key `naming` says what people call it.
    pub(crate) fn entry(&mut self, list: &str, naming: &str, index: usize) -> At<'_, 'a> {
        let path = join(&self.path, &format!("{list}.{index}"));
        let name = self.reader.tree.at(&join(&path, naming)).and_then(Node::text);
        let title = entry_title(&join(&self.title, list), name, index);
        At { path, pattern: join(&self.pattern, &format!("{list}.*")), title, reader: self.reader }
    }

    /// The value of a key, if one was given.
    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.reader.tree.at(&join(&self.path, name))
    }

    /// What people call a key.
    #[must_use]
    pub fn title(&self, name: &str) -> String {
        join(&self.title, name)
    }

    /// Whether a key was given.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    /// Where a key was given, or else the section in which it is missing.
    #[must_use]
    pub fn place(&self, name: &str) -> Place {
        let given = self.node(name).or_else(|| {
            let section = name.rsplit_once('.').map_or("", |(section, _)| section);
            let path = join(&self.path, section);
            let path = path.trim_end_matches('.');
            if path.is_empty() { None } else { self.reader.tree.at(path) }
        });
        given.map(|node| node.place.clone()).unwrap_or_default()
    }

    /// Records something that is allowed, but should be known.
    pub fn warn(&mut self, warning: String) {
        self.reader.warnings.push(warning);
    }

    /// Whether a problem of this section or key, or of one below it, was recorded already.
    #[must_use]
    pub fn is_flawed(&self, name: &str) -> bool {
        let title = self.title(name);
        self.reader.problems.iter().any(|problem| {
            let rest = problem.key.strip_prefix(&title);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Notes a file that a key names. The kinds of keys for files do that themselves; this is for other keys.
    pub fn uses(&mut self, name: &str, file: &Path) {
        let key = self.title(name);
        self.reader.uses.push(Use { key, path: file.to_owned(), written: None });
    }

    /// Notes a file that is going to be written. Nothing else may use it; where nothing does, `own` says whether what it holds
    /// may be written into.
    pub fn writes(&mut self, name: &str, file: &Path, own: Own) {
        let written = Written { place: self.place(name), value: self.shown(name), own };
        self.reader.uses.push(Use { key: self.title(name), path: file.to_owned(), written: Some(written) });
    }

    /// Records a flaw of a key, with its value (if that may be shown) and place.
    pub fn flawed(&mut self, name: &str, flaw: Flaw) -> Reported {
        let problem = self.problem(name, flaw);
        self.report(problem)
    }

    /// Records a key that is missing beside another one that was given. For keys of which neither means anything alone.
    pub fn together(&mut self, one: &str, other: &str) {
        let missing = match (self.is_given(one), self.is_given(other)) {
            (true, false) => other,
            (false, true) => one,
            _ => return,
        };
        self.flawed(missing, Flaw::new("is required", format!("give {one} and {other} together")));
    }

    /// Records that a key was given without the one that it needs.
    pub fn needs(&mut self, given: &str, missing: &str) {
        if self.is_given(given) && !self.is_given(missing) {
            let hint = format!("set `{missing}`, or remove `{given}`");
            self.flawed(missing, Flaw::new(format!("is required beside `{given}`"), hint));
        }
    }

    /// Records what was good until it ended, such as a certificate. It is no reason not to start: the clock may be wrong.
    pub fn ended(&mut self, name: &str, flaw: Flaw) {
        let problem = self.problem(name, flaw);
        self.reader.ended.push(problem);
    }

    /// The key as it is declared; where it is declared for several words of another key, the one for the word that was given.
    fn declared(&self, name: &str) -> Option<&Key> {
        let is_meant = |key: &&Key| {
            let Some((beside, wanted)) = key.only else { return true };
            self.node(beside).and_then(Node::text) == Some(wanted)
        };
        let path = join(&self.pattern, name);
        let tables = self.reader.tables;
        tables.find_all(&path).find(is_meant).or_else(|| tables.find(&path))
    }

    fn problem(&self, name: &str, flaw: Flaw) -> Problem {
        let key = self.declared(name);
        let hint = flaw.hint.or_else(|| key.map(Key::expectation));
        let value = self.shown(name);
        Problem { key: self.title(name), place: self.place(name), value, reason: flaw.reason, hint }
    }

    /// The value of a key as it stands in the file, if it may be shown.
    fn shown(&self, name: &str) -> Option<String> {
        let key = self.declared(name);
        let shape = key.map(|key| &key.facts.shape);
        let shown = self.node(name).filter(|_| !matches!(shape, None | Some(Shape::Secret | Shape::Secrets)));
        shown.and_then(|node| match &node.content {
            // Credentials may stand before the `@` or behind the `?`.
            Content::Text(text) if shape == Some(&Shape::Url) && text.contains(['@', '?']) => None,
            Content::Text(text) if text.contains("://") && text.contains(['@', '?']) => None,
            Content::Text(text) => Some(quoted(text)),
            Content::Number(number) => Some(number.to_string()),
            Content::Flag(flag) => Some(flag.to_string()),
            Content::Other(_, text) => Some(text.clone()),
            Content::Table(_) | Content::List(_) => None,
        })
    }

    /// Records a problem.
    pub(crate) fn report(&mut self, problem: Problem) -> Reported {
        self.reader.problems.push(problem);
        Reported
    }

    /// Reports keys that were given, but mean something only beside another word of the key `name`.
    pub fn refuse_misplaced(&mut self, name: &str, word: &str) {
        let Some(table) = self.reader.tables.table(&self.pattern) else { return };
        let mut told = Vec::new();
        for key in &table.keys {
            let fits = |other: &Key| other.name == key.name && other.only.is_none_or(|(_, wanted)| wanted == word);
            let Some((beside, _)) = key.only else { continue };
            if beside != name || told.contains(&key.name) || !self.is_given(key.name) || table.keys.iter().any(fits) {
                continue;
            }
            told.push(key.name);
            let others = table.keys.iter().filter(|other| other.name == key.name).filter_map(|other| other.only);
            let words: Vec<_> = others.filter(|(tag, _)| *tag == name).map(|(_, word)| format!("\"{word}\"")).collect();
            let words = words.join(" or ");
            let hint = format!("remove the key, or set {name} = {words}");
            self.flawed(key.name, Flaw::new(format!("is only for {name} = {words}"), hint));
        }
    }

    /// The value as text, or the default, through `parse`; `None` where there is neither.
    pub(crate) fn parsed<T>(
        &mut self,
        facts: &Facts,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Flaw>,
    ) -> Read<Option<T>> {
        let text = match (self.node(name), facts.default) {
            (None, None) => return Ok(None),
            (None, Some(default)) => Ok(default.to_owned()),
            (Some(node), _) => as_text(&facts.shape, node),
        };
        let parsed = text.and_then(|text| {
            if text.is_empty() {
                return Err(Flaw::from("is empty"));
            }
            if text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
                return Err(Flaw::from("has control characters, or is not valid UTF-8"));
            }
            parse(&text)
        });
        parsed.map(Some).map_err(|flaw| self.flawed(name, flaw))
    }

    /// A list as it was given; in the environment, separated by commas; empty where nothing was.
    pub(crate) fn list(&mut self, name: &str) -> Read<Vec<&'a str>> {
        let Some(node) = self.node(name) else { return Ok(Vec::new()) };
        let list: Option<Vec<&'a str>> = match &node.content {
            Content::List(list) => list.iter().map(Node::text).collect(),
            Content::Text(text) if node.is_variable() => {
                Some(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect())
            }
            _ => None,
        };
        list.ok_or_else(|| self.flawed(name, "must be a list of texts".into()))
    }
}

/// A plain value as text, if its TOML type fits the shape.
fn as_text(shape: &Shape, node: &Node) -> Result<String, Flaw> {
    let found = match &node.content {
        Content::Text(text) if node.is_variable() || !matches!(shape, Shape::Number | Shape::Flag) => {
            return Ok(text.clone());
        }
        Content::Number(number) if *shape == Shape::Number => return Ok(number.to_string()),
        Content::Flag(flag) if *shape == Shape::Flag => return Ok(flag.to_string()),
        Content::Number(_) if matches!(shape, Shape::Duration | Shape::Size) => return Err("has no unit".into()),
        Content::Text(_) => "text",
        Content::Number(_) => "a number",
        Content::Flag(_) => "a boolean",
        Content::Table(_) => "a section",
        Content::List(_) => "a list",
        Content::Other(what, _) => what,
    };
    let wanted = match shape {
        Shape::Number => "a whole number",
        Shape::Flag => "true or false",
        _ => "text between quotation marks",
    };
    Err(format!("must be {wanted}, not {found}").into())
}

/// Reads a value and holds it against the limits of its key.
pub(crate) fn within<T: PartialOrd>(
    facts: &Facts,
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Flaw> {
    let value = read(text)?;
    let Some((least, most)) = facts.limits else { return Ok(value) };
    if value < read(least)? || value > read(most)? {
        return Err(Flaw::new("is out of range", format!("from {least} to {most}")));
    }
    Ok(value)
}
