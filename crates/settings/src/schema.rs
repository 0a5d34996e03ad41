//! The JSON Schema of the configuration file, made from the declarations, for editors and pipelines.
//!
//! It describes shapes, words and defaults. What concerns several keys, and whether files exist, only `check` can say.

use crate::{
    keys::{Key, Shape, Table, TableKind, Tables, join},
    section::Section,
};
use serde_json::{Map, Value, json};

/// JSON Schema (2020-12) of the TOML file.
#[must_use]
pub fn schema<S: Section>(title: &str) -> Value {
    let tables = Tables::of::<S>();
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "$defs": definitions()
    });
    if let (Some(root), Value::Object(whole)) = (root.as_object_mut(), of_table(&tables, "")) {
        root.extend(whole);
    }
    root
}

/// What several keys share.
fn definitions() -> Value {
    json!({
        "duration": {
            "type": "string",
            "description": "Whole numbers with ms, s, m, h or d",
            "pattern": "^\\s*([0-9]+\\s*(ms|s|m|h|d)\\s*)+$"
        },
        "size": {
            "type": "string",
            "description": "A whole number with B, KiB, MiB, GiB, TiB (1024) or KB, MB, GB, TB (1000)",
            "pattern": "^\\s*[0-9]+\\s*([KkMmGgTt][Ii]?)?[Bb]\\s*$"
        },
        "secret": {
            "description": "Where a secret is read from",
            "oneOf": [
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["file"],
                    "properties": { "file": { "type": "string", "description": "Path of a file that holds it" } }
                },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["env"],
                    "properties": { "env": { "type": "string", "description": "Name of a variable that holds it" } }
                }
            ]
        }
    })
}

/// A table with its keys and all that lies below it.
fn of_table(tables: &Tables, path: &str) -> Value {
    let Some(table) = tables.table(path) else { return json!({ "type": "object" }) };
    let mut properties = Map::new();
    for name in tables.names_in(path) {
        let below = join(path, name);
        let list = join(&below, "*");
        let mut keys: Vec<Value> = table.keys.iter().filter(|key| key.name == name).map(of_key).collect();
        let schema = match keys.len() {
            0 if tables.table(&list).is_some_and(Table::may_be_secret) => json!({
                "oneOf": [{ "$ref": "#/$defs/secret" }, { "type": "array", "items": of_table(tables, &list) }]
            }),
            0 if tables.is_section(&list) => {
                json!({ "type": "array", "minItems": 1, "items": of_table(tables, &list) })
            }
            0 => of_table(tables, &below),
            1 => keys.remove(0),
            _ => json!({ "anyOf": keys }),
        };
        properties.insert(name.to_owned(), schema);
    }
    let mut schema =
        json!({ "type": "object", "description": table.doc, "additionalProperties": false, "properties": properties });
    let required = required(table);
    if let (Some(members), false) = (schema.as_object_mut(), required.is_empty()) {
        members.insert("required".to_owned(), json!(required));
    }
    schema
}

/// Keys that must stand in each entry of a list. Other tables may get theirs from the environment.
fn required(table: &Table) -> Vec<&'static str> {
    let is_list = matches!(table.kind, TableKind::List { .. } | TableKind::ListOrSecret { .. });
    let keys = table.keys.iter().filter(|key| is_list && key.facts.is_required && key.only.is_none());
    keys.map(|key| key.name).collect()
}

fn of_key(key: &Key) -> Value {
    let facts = &key.facts;
    let mut schema = match &facts.shape {
        Shape::Text | Shape::Address | Shape::AddressOrOff | Shape::Path => json!({ "type": "string", "minLength": 1 }),
        Shape::Url => json!({ "type": "string", "format": "uri" }),
        Shape::Words(words) => json!({ "enum": words.iter().map(|word| word.word).collect::<Vec<_>>() }),
        Shape::Number => json!({ "type": "integer" }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Duration => json!({ "$ref": "#/$defs/duration" }),
        Shape::Size => json!({ "$ref": "#/$defs/size" }),
        Shape::Paths | Shape::Networks | Shape::Texts => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        }
        Shape::Secret => json!({ "$ref": "#/$defs/secret" }),
        Shape::Pairs => json!({
            "type": "object",
            "additionalProperties": { "oneOf": [{ "type": "string" }, { "$ref": "#/$defs/secret" }] }
        }),
        Shape::Secrets => json!({
            "oneOf": [{ "$ref": "#/$defs/secret" }, { "type": "array", "items": { "$ref": "#/$defs/secret" } }]
        }),
    };
    let Some(members) = schema.as_object_mut() else { return schema };
    let number = |text: &str| text.parse::<u64>().ok().map(Value::from);
    let limits = facts.limits.filter(|_| facts.shape == Shape::Number);
    if let Some((Some(least), Some(most))) = limits.map(|(least, most)| (number(least), number(most))) {
        members.insert("minimum".to_owned(), least);
        members.insert("maximum".to_owned(), most);
    }
    let mut description = key.sentences();
    if let Some((beside, word)) = key.only {
        description.extend([" Only for ", beside, " = \"", word, "\"."]);
    }
    members.insert("description".to_owned(), description.into());
    if let Some(default) = facts.default {
        let default = match facts.shape {
            Shape::Number => number(default),
            Shape::Flag => default.parse::<bool>().ok().map(Value::from),
            _ => Some(default.into()),
        };
        members.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}
