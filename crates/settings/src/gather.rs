//! The file and the environment as one tree of values, each with its place; keys that nobody knows are found here.
//!
//! The `config` crate reads the file and lays the environment over it.

use crate::{
    keys::{TableKind, Tables},
    lines::Lines,
    nearest,
    problem::{Place, Problem},
    tree::{Content, Node},
    variables::{self, Environment},
};
use config::{Config, ConfigError, File, FileFormat, Map, Source, Value};
use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

const TOML_HINT: &str =
    "write [section] once, and below it a line key = value for each key; texts stand between quotation marks";

/// Reads file and environment. What cannot be read or is not known becomes a problem; the rest is returned.
///
/// `default` is read where no file is named, if it exists. Variables begin with `prefix`.
pub(crate) fn gather(
    (file, default): (Option<&Path>, &Path),
    (environment, prefix): (&Environment, &str),
    tables: &Tables,
    (problems, warnings): (&mut Vec<Problem>, &mut Vec<String>),
) -> Node {
    let name: Arc<str> = file.unwrap_or(default).display().to_string().into();
    let text = match fs::read(file.unwrap_or(default)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|error| {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            let place = Place::File { name: Arc::clone(&name), line: Some(line) };
            problems.push(Problem::new("", &place, "is not valid UTF-8").hint("save the file as UTF-8"));
            String::new()
        }),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let place = Place::File { name: Arc::clone(&name), line: None };
            let hint = "name a file that this user may read with --config";
            problems.push(Problem::new("", &place, format!("cannot be read: {error}")).hint(hint));
            String::new()
        }
    };
    let (lines, text) = match Lines::of(&text) {
        Ok(lines) => (lines, text.as_str()),
        Err(error) => {
            let place = Place::File { name: Arc::clone(&name), line: Some(error.line) };
            let problem = Problem::new("", &place, format!("is not valid TOML: {}", error.message));
            let is_number = error.message.ends_with("is too large");
            problems.push(problem.hint(if is_number { "write a smaller number" } else { TOML_HINT }));
            (Lines::default(), "")
        }
    };
    let overrides = variables::overrides(environment, prefix, tables, &lines, (problems, warnings));
    let tree = layers(text, overrides, tables).unwrap_or_else(|error| {
        let place = Place::File { name: Arc::clone(&name), line: None };
        let reason = match &error {
            ConfigError::FileParse { cause, .. } => format!("is not valid TOML: {cause}"),
            other => format!("cannot be read: {other}"),
        };
        problems.push(Problem::new("", &place, reason));
        Value::from(Map::<String, Value>::new())
    });
    let empty = || Node { place: Place::Nowhere, content: Content::Table(BTreeMap::new()) };
    let mut tree = Node::new(tree, "", &name, &lines).unwrap_or_else(empty);
    nearest::report(&tree, tables, "", "", problems);
    add_default_lists(&mut tree, tables);
    tree
}

/// The file's text with values of the environment over it.
fn layers(text: &str, overrides: Vec<(String, Value)>, tables: &Tables) -> Result<Value, ConfigError> {
    let mut file = File::from_str(text, FileFormat::Toml).collect()?;
    // The builder takes the names of sections for paths: `"sink[1000000000]"` would make a list of that length. What is
    // not declared is laid beside what it makes, to be reported.
    let known = tables.names_in("");
    let (known, strangers): (Map<_, _>, Map<_, _>) = file.drain().partition(|(name, _)| known.contains(&name.as_str()));
    let mut builder = Config::builder().add_source(Known(known));
    for (path, value) in overrides {
        builder = builder.set_override(path, value)?;
    }
    let mut tables = builder.build()?.cache.into_table()?;
    tables.extend(strangers);
    Ok(tables.into())
}

/// The sections of the file that were declared.
#[derive(Clone, Debug)]
struct Known(Map<String, Value>);

impl Source for Known {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Adds the default entry of each list that was not given.
fn add_default_lists(tree: &mut Node, tables: &Tables) {
    let Content::Table(root) = &mut tree.content else { return };
    for table in tables.iter() {
        if let (TableKind::List { default, .. }, Some(name)) = (table.kind, table.path.strip_suffix(".*"))
            && !root.contains_key(name)
        {
            let entry = default.iter().map(|(key, text)| ((*key).to_owned(), Node::default(text))).collect();
            let list = vec![Node { place: Place::Nowhere, content: Content::Table(entry) }];
            root.insert(name.to_owned(), Node { place: Place::Nowhere, content: Content::List(list) });
        }
    }
}
