//! The file and the environment as one tree of values, each with its origin; keys that nobody knows are found here.
//!
//! Both are read by the `config` crate. They are merged here and not by it, because it cannot reach into the entries of
//! `[[sink]]`, drops the name of the variable, and would join half a secret of the file with half a secret of the
//! environment. An environment variable wins over the file.

use super::{
    keys::{self, Kind},
    origin::Environment,
    problems::Problem,
};
use config::{Environment as Variables, File, FileFormat, Map, Source, Value, ValueKind};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

/// Read where no file is named, if it exists.
pub(super) const DEFAULT_FILE: &str = "config/linxo-webhook.toml";

/// What every variable of ours begins with. `LINXO_WEBHOOK_CONFIG`, with one underscore, is an option of the command line.
const PREFIX: &str = "LINXO_WEBHOOK";
const SEPARATOR: &str = "__";

/// Reads file and environment. What cannot be read or is not known becomes a problem; the rest is returned.
pub(super) fn gather(file: Option<&Path>, environment: &Environment, problems: &mut Vec<Problem>) -> Value {
    let mut tree = Value::new(None, read_file(file, problems));
    let branch = variables(environment, problems);
    merge(&mut tree, Node::Branch(branch), "", "", problems);
    strangers(&tree, "", "", problems);
    tree
}

/// The file's tables; empty when there is none.
fn read_file(file: Option<&Path>, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    let problem = |reason: String| Problem::new("", reason).from(Some(&name));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => return Map::new(),
        Err(error) => {
            problems.push(problem(format!("cannot be read: {error}")));
            return Map::new();
        }
    };
    match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(tables) => tables.into_iter().map(|(key, value)| (key, with_origin(value, &name))).collect(),
        Err(error) => {
            problems.push(problem(format!("is not valid TOML: {}", without_source_text(&error))));
            Map::new()
        }
    }
}

/// A TOML error's position and message. The lines between them quote the file, which may hold what must not be shown.
fn without_source_text(error: &config::ConfigError) -> String {
    let text = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let is_quote = |line: &&str| {
        line.split_once('|').is_some_and(|(number, _)| number.trim().parse::<u64>().is_ok() || number.trim().is_empty())
    };
    let kept: Vec<&str> = text.lines().filter(|line| !is_quote(line)).map(str::trim).collect();
    kept.join(": ").trim_start_matches("TOML parse error ").to_owned()
}

/// The same value with a name for where it came from, all the way down.
fn with_origin(value: Value, origin: &String) -> Value {
    let kind = match value.kind {
        ValueKind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, with_origin(value, origin))).collect())
        }
        ValueKind::Array(array) => {
            ValueKind::Array(array.into_iter().map(|value| with_origin(value, origin)).collect())
        }
        plain => plain,
    };
    Value::new(Some(origin), kind)
}

/// Our environment variables as a tree.
enum Node {
    Leaf { variable: String, text: String },
    Branch(BTreeMap<String, Node>),
}

impl Node {
    /// A variable at or below this node, to name one where they contradict each other.
    fn variable(&self) -> Option<&str> {
        match self {
            Self::Leaf { variable, .. } => Some(variable),
            Self::Branch(children) => children.values().find_map(Self::variable),
        }
    }
}

fn variables(environment: &Environment, problems: &mut Vec<Problem>) -> BTreeMap<String, Node> {
    let start = format!("{PREFIX}{SEPARATOR}");
    let ours: Map<String, String> = environment
        .iter()
        .filter(|(name, _)| name.starts_with(&start))
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect();
    // The crate gives keys back in lower case and with dots; the variable's own name is kept for messages.
    let names: HashMap<String, &String> =
        ours.keys().map(|name| (name.to_lowercase()[start.len()..].replace(SEPARATOR, "."), name)).collect();
    if names.len() < ours.len() {
        problems
            .push(Problem::new("", "some variables differ only in upper and lower case").from(Some("the environment")));
    }
    let source = Variables::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(ours.clone()))
        .collect();
    let found = match source {
        Ok(found) => found,
        Err(error) => {
            problems.push(Problem::new("", format!("cannot be read: {error}")).from(Some("the environment")));
            return BTreeMap::new();
        }
    };
    let mut root = BTreeMap::new();
    for (key, value) in found.into_iter().collect::<BTreeMap<_, _>>() {
        let (Some(variable), ValueKind::String(text)) = (names.get(&key), value.kind) else { continue };
        let leaf = Node::Leaf { variable: (*variable).clone(), text };
        if !insert(&mut root, &key, leaf) {
            problems.push(
                Problem::new(key, "is given as a value and as a section at once")
                    .from(Some(variable))
                    .hint("unset one of the variables"),
            );
        }
    }
    root
}

/// Puts a leaf in its place; false when something else is there.
fn insert(branch: &mut BTreeMap<String, Node>, key: &str, leaf: Node) -> bool {
    match key.split_once('.') {
        None => match branch.get(key) {
            None => branch.insert(key.to_owned(), leaf).is_none(),
            Some(_) => false,
        },
        Some((first, rest)) => match branch.entry(first.to_owned()).or_insert_with(|| Node::Branch(BTreeMap::new())) {
            Node::Branch(children) => insert(children, rest, leaf),
            Node::Leaf { .. } => false,
        },
    }
}

/// Lays the environment over the file. `path` names the place, `pattern` is its path in the table of keys.
fn merge(into: &mut Value, node: Node, path: &str, pattern: &str, problems: &mut Vec<Problem>) {
    let origin = node.variable().map(str::to_owned);
    let children = match node {
        Node::Leaf { variable, text } => {
            *into = Value::new(Some(&variable), text);
            return;
        }
        Node::Branch(children) => children,
    };
    // A secret is replaced as a whole: a file of one and a variable of the other would contradict each other.
    let is_secret = keys::find(pattern).is_some_and(|key| matches!(key.kind, Kind::Secret | Kind::Secrets));
    let numbers: Option<BTreeMap<usize, Node>> = if children.keys().all(is_number) {
        Some(children.into_iter().filter_map(|(name, child)| Some((name.parse().ok()?, child))).collect())
    } else {
        let mut table = match std::mem::take(&mut into.kind) {
            ValueKind::Table(table) if !is_secret => table,
            _ => Map::new(),
        };
        for (name, child) in children {
            let (path, pattern) = (join(path, &name), join(pattern, &name));
            merge(
                table.entry(name).or_insert_with(|| Value::new(origin.as_ref(), ValueKind::Nil)),
                child,
                &path,
                &pattern,
                problems,
            );
        }
        into.kind = ValueKind::Table(table);
        None
    };
    let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { return };
    let mut array = match std::mem::take(&mut into.kind) {
        ValueKind::Array(array) if !is_secret => array,
        _ => Vec::new(),
    };
    for (index, child) in numbers {
        let path = join(path, &index.to_string());
        let next = array.len();
        if index == next {
            array.push(Value::new(origin.as_ref(), ValueKind::Nil));
        }
        match array.get_mut(index) {
            Some(entry) => merge(entry, child, &path, &join(pattern, "*"), problems),
            None => problems.push(
                Problem::new(path, "leaves a gap in the list")
                    .from(child.variable())
                    .hint(format!("the next number is {next}")),
            ),
        }
    }
    into.kind = ValueKind::Array(array);
}

/// Whether a name is a place in a list; `00` is not, it would be the same place as `0`.
fn is_number(name: &String) -> bool {
    name.parse::<usize>().is_ok_and(|number| number.to_string() == *name)
}

/// Reports keys and sections that are not in the table. Their values are not shown: one may be a misplaced secret.
fn strangers(value: &Value, path: &str, pattern: &str, problems: &mut Vec<Problem>) {
    let list = join(pattern, "*");
    match &value.kind {
        ValueKind::Table(table) if !keys::is_section(&list) => {
            for (name, child) in table.iter().collect::<BTreeMap<_, _>>() {
                let (path, below) = (join(path, name), join(pattern, name));
                if keys::find(&below).is_some() {
                    continue;
                }
                if keys::is_section(&below) {
                    strangers(child, &path, &below, problems);
                } else {
                    problems.push(unknown(&path, name, pattern).from(child.origin()));
                }
            }
        }
        ValueKind::Array(array) if keys::is_section(&list) => {
            for (index, child) in array.iter().enumerate() {
                strangers(child, &join(path, &index.to_string()), &list, problems);
            }
        }
        _ if keys::is_section(&list) => problems.push(
            Problem::new(path, "must be a list of sections")
                .from(value.origin())
                .hint(format!("write [[{pattern}]], or {PREFIX}__{}__0__NAME", pattern.to_uppercase())),
        ),
        _ => problems.push(
            Problem::new(path, "is a section, not a value")
                .from(value.origin())
                .hint(format!("it holds: {}", keys::names_in(pattern).join(", "))),
        ),
    }
}

fn unknown(path: &str, name: &str, section: &str) -> Problem {
    let known = keys::names_in(section);
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance);
    let elsewhere = keys::KEYS.iter().find(|key| key.name() == name);
    let problem = Problem::new(path, "is not a known key");
    match (nearest, elsewhere) {
        (Some((_, candidate)), _) => problem.hint(format!("did you mean `{candidate}`?")),
        (None, Some(key)) => problem.hint(format!("`{name}` belongs to `{}`", key.section())),
        (None, None) => problem.hint(format!("known here: {}", known.join(", "))),
    }
}

/// `listener` and `path` give `listener.path`.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
