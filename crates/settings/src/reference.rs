//! The reference file: every key with its comment and default, made from the declarations.
//!
//! It is a configuration that can be loaded, and does what runs without any file. Keys that have no default, keys of
//! another variant than the default one, and sections that may be missing stand in comments.

use crate::{
    keys::{Key, Shape, Table, TableKind, Tables},
    section::Section,
};

/// Longest line.
const WIDTH: usize = 118;

/// The reference of everything below a section. `head` is what stands first, one paragraph a line.
#[must_use]
pub fn reference<S: Section>(head: &str) -> String {
    let mut text = String::new();
    comment(&mut text, "", head);
    let mut optional: Option<String> = None;
    let tables = Tables::of::<S>();
    for table in tables.iter().filter(|table| !table.keys.is_empty() || !table.path.is_empty()) {
        if table.kind == TableKind::Optional {
            optional = Some(format!("{}.", table.path));
        }
        let is_optional = table.kind == TableKind::Optional
            || table.may_be_secret()
            || optional.as_ref().is_some_and(|above| table.path.starts_with(above.as_str()));
        section(&mut text, table, is_optional);
    }
    text
}

fn section(text: &mut String, table: &Table, is_optional: bool) {
    if !text.is_empty() {
        text.push('\n');
    }
    // A section of variants has one sentence for itself and for the key that chooses.
    if table.keys.first().is_none_or(|key| key.doc != table.doc) {
        comment(text, "", &table.doc);
    }
    let mark = if is_optional { "# " } else { "" };
    match table.path.strip_suffix(".*") {
        _ if table.path.is_empty() => {}
        Some(list) => text.extend([mark, "[[", list, "]]\n"]),
        // A section of an entry of a list belongs to the entry above it.
        None => text.extend([mark, "[", &table.path.replace(".*.", "."), "]\n"]),
    }
    let defaults = if let TableKind::List { default, .. } = table.kind { default } else { &[] };
    for key in &table.keys {
        let given = defaults.iter().find(|(name, _)| *name == key.name).map(|(_, value)| *value);
        let is_selected =
            key.only.is_none_or(|(tag, word)| defaults.iter().any(|(name, value)| *name == tag && *value == word));
        let is_set = given.is_some() || !key.facts.is_required && default(key).is_some();
        let sentences = match key.only {
            Some((tag, word)) => format!("For {tag} = \"{word}\": {}", key.sentences()),
            None => key.sentences(),
        };
        comment(text, "", &sentences);
        if let Shape::Words(words) = &key.facts.shape {
            for word in words {
                let doc = word.doc.split_whitespace().collect::<Vec<_>>().join(" ");
                comment(text, "  ", &format!("\"{}\": {doc}", word.word));
            }
        }
        let value =
            given.map(|text| written(&key.facts.shape, text)).or_else(|| default(key)).unwrap_or_else(|| example(key));
        let mark = if is_set && is_selected && !is_optional { "" } else { "# " };
        text.extend([mark, key.name, " = ", &value, "\n"]);
    }
}

/// The default as it is written in the file; a list without one, and without an example, is empty.
fn default(key: &Key) -> Option<String> {
    match key.facts.default {
        Some(text) => Some(written(&key.facts.shape, text)),
        None if key.facts.shape.is_list() && key.facts.example.is_none() => Some("[]".to_owned()),
        None => None,
    }
}

fn written(shape: &Shape, text: &str) -> String {
    if matches!(shape, Shape::Number | Shape::Flag) { text.to_owned() } else { format!("{text:?}") }
}

/// What stands behind a key in a comment.
fn example(key: &Key) -> String {
    let text = match (key.facts.example, &key.facts.shape) {
        (Some(example), _) => example,
        (None, Shape::Secret | Shape::Secrets) => "{ file = \"secrets/...\" }",
        (None, _) => "\"...\"",
    };
    text.to_owned()
}

/// Paragraphs as comments, cut at the width.
fn comment(text: &mut String, indent: &str, paragraphs: &str) {
    for paragraph in paragraphs.lines() {
        let mut line = format!("#{indent}");
        for word in paragraph.split(' ') {
            if line.len() + 1 + word.chars().count() > WIDTH && line.len() > indent.len() + 1 {
                text.extend([line.trim_end(), "\n"]);
                line = format!("#{indent}");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.extend([line.trim_end(), "\n"]);
    }
}
