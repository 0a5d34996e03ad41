//! What was given: a tree of values, each with its place.
//!
//! It is made of what the `config` crate merged; values that came from a variable carry the variable's name there, and
//! all others are found in the file.

use crate::{keys::join, lines::Lines, problem::Place};
use config::{Value, ValueKind};
use std::{collections::BTreeMap, sync::Arc};

/// A value and where it was given.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where.
    pub(crate) place: Place,
    /// What.
    pub(crate) content: Content,
}

/// What was given.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A table of the file, or several variables with a common start.
    Table(BTreeMap<String, Node>),
    /// A list.
    List(Vec<Node>),
    /// Text; everything in the environment is text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`
    Flag(bool),
    /// Another value, which no key takes: what it is called, and how it is shown.
    Other(&'static str, String),
}

impl Node {
    /// A text that stands in no file, as a default.
    pub(crate) fn default(text: &str) -> Self {
        Self { place: Place::Nowhere, content: Content::Text(text.to_owned()) }
    }

    /// The value at a path below this one.
    pub(crate) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|name| !name.is_empty()).try_fold(self, |node, name| match &node.content {
            Content::Table(table) => table.get(name),
            Content::List(list) => list.get(name.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// Whether it came from the environment.
    pub(crate) const fn is_variable(&self) -> bool {
        matches!(self.place, Place::Variable(_))
    }

    /// Takes over what the `config` crate merged. Members without a value are left out.
    pub(crate) fn new(value: Value, path: &str, file: &Arc<str>, lines: &Lines) -> Option<Self> {
        let variable = value.origin().map(str::to_owned);
        let content = match value.kind {
            ValueKind::Nil => return None,
            ValueKind::Table(table) => {
                let below = |(name, value): (String, Value)| {
                    let node = Self::new(value, &join(path, &name), file, lines)?;
                    Some((name, node))
                };
                Content::Table(table.into_iter().filter_map(below).collect())
            }
            ValueKind::Array(list) => {
                let below = |(index, value)| Self::new(value, &join(path, &usize::to_string(&index)), file, lines);
                Content::List(list.into_iter().enumerate().filter_map(below).collect())
            }
            ValueKind::String(text) => Content::Text(text),
            ValueKind::I64(number) => Content::Number(number),
            ValueKind::Boolean(value) => Content::Flag(value),
            ValueKind::Float(value) => Content::Other("a fraction", value.to_string()),
            ValueKind::I128(value) => Content::Other("a number", value.to_string()),
            ValueKind::U64(value) => Content::Other("a number", value.to_string()),
            ValueKind::U128(value) => Content::Other("a number", value.to_string()),
        };
        let place = match (variable, lines.line(path)) {
            (Some(variable), _) => Place::Variable(variable),
            (None, Some(line)) => Place::File { name: Arc::clone(file), line: Some(line) },
            // A table that is in no file, but in variables: its place is that of one of them.
            (None, None) => content.first_place(),
        };
        Some(Self { place, content })
    }
}

impl Content {
    fn first_place(&self) -> Place {
        let first = match self {
            Self::Table(table) => table.values().next(),
            Self::List(list) => list.first(),
            _ => None,
        };
        first.map(|node| node.place.clone()).unwrap_or_default()
    }
}
