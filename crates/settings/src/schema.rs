//! The JSON Schema of the configuration file, made from the table of keys, for editors and pipelines.
//!
//! It describes shapes, words and defaults. What concerns several keys, and whether files exist, only `check` can say.

use super::keys::{KEYS, Key, Kind};
use serde_json::{Map, Value, json};

/// JSON Schema (2020-12) of the TOML file.
#[must_use]
pub fn schema() -> Value {
    let mut properties = Map::new();
    for key in KEYS.iter().filter(|key| key.is_available()) {
        place(&mut properties, key.path, of_key(key));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of linxo-webhook",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": {
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
        }
    })
}

/// Puts a key's schema in its section, which is made when it is the first.
fn place(properties: &mut Map<String, Value>, path: &str, schema: Value) {
    let Some((name, rest)) = path.split_once('.') else {
        properties.insert(path.to_owned(), schema);
        return;
    };
    let object = |required: &[&str]| {
        let mut object = json!({ "type": "object", "additionalProperties": false, "properties": {} });
        if let (Some(members), false) = (object.as_object_mut(), required.is_empty()) {
            members.insert("required".to_owned(), json!(required));
        }
        object
    };
    let (below, rest) = match rest.strip_prefix("*.") {
        Some(rest) => {
            let list = properties
                .entry(name)
                .or_insert_with(|| json!({ "type": "array", "minItems": 1, "items": object(&["name", "type"]) }));
            (list.pointer_mut("/items/properties"), rest)
        }
        None => (properties.entry(name).or_insert_with(|| object(&[])).pointer_mut("/properties"), rest),
    };
    if let Some(Value::Object(below)) = below {
        place(below, rest, schema);
    }
}

fn of_key(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text | Kind::Address | Kind::AddressOrOff | Kind::Path | Kind::Later => {
            json!({ "type": "string", "minLength": 1 })
        }
        Kind::Url => json!({ "type": "string", "format": "uri" }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Duration => json!({ "$ref": "#/$defs/duration" }),
        Kind::Size => json!({ "$ref": "#/$defs/size" }),
        Kind::Paths | Kind::Networks | Kind::Texts => {
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        }
        Kind::Secret => json!({ "$ref": "#/$defs/secret" }),
        Kind::Secrets => json!({
            "oneOf": [{ "$ref": "#/$defs/secret" }, { "type": "array", "items": { "$ref": "#/$defs/secret" } }]
        }),
    };
    let Some(members) = schema.as_object_mut() else { return schema };
    let number = |text: &str| text.parse::<u64>().ok().map(Value::from);
    let mut description = key.doc.to_owned();
    if let Some((least, most)) = key.limits {
        match (key.kind, number(least), number(most)) {
            (Kind::Integer, Some(least), Some(most)) => {
                members.insert("minimum".to_owned(), least);
                members.insert("maximum".to_owned(), most);
            }
            _ => description.extend(["; from ", least, " to ", most]),
        }
    }
    if let Some((beside, value)) = key.only {
        description.extend(["; only for ", beside, " = \"", value, "\""]);
    }
    members.insert("description".to_owned(), description.into());
    if let Some(default) = key.default {
        let default = if key.kind == Kind::Integer { number(default) } else { Some(default.into()) };
        members.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}
