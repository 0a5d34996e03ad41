//! The schemas hold for the samples, by a validator of exactly the keywords that they use.

use super::*;
use delivery::{Attributes, Completion, DeliveryId};
use event::{ChannelDefinitionId, ConnectionId, Event, UserId};
use serde_json::json;
use std::fs;

/// What does not fit first; panics at a keyword that it does not know.
fn validate(schema: &Value, value: &Value, root: &Value, at: &str) -> Result<(), String> {
    let root = if schema.get("$id").is_some() { schema } else { root };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    for (keyword, rule) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "default" | "format" | "pattern" => true,
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                types.iter().any(|name| name == kind || (name == "number" && kind == "integer"))
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_u64().is_none_or(|number| number >= rule.as_u64().unwrap()),
            "maximum" => value.as_u64().is_none_or(|number| number <= rule.as_u64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
            "minItems" => value.as_array().is_none_or(|list| !list.is_empty()),
            "required" => rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "additionalProperties" => {
                let known = |name: &str| schema["properties"].get(name).is_some();
                for (name, member) in value.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
                    if rule == false {
                        return Err(format!("{at} does not fit {keyword} {rule}"));
                    }
                    validate(rule, member, root, &format!("{at}.{name}"))?;
                }
                true
            }
            "properties" => {
                for (name, below) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        validate(below, member, root, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "items" => {
                for member in value.as_array().into_iter().flatten() {
                    validate(rule, member, root, &format!("{at}[]"))?;
                }
                true
            }
            "$ref" => {
                let target = match rule.as_str().unwrap().strip_prefix('#') {
                    Some(pointer) => root.pointer(pointer).unwrap(),
                    None => &root["$defs"]["event"],
                };
                assert!(rule.as_str().unwrap().starts_with('#') || target["$id"] == *rule);
                validate(target, value, root, at)?;
                true
            }
            "oneOf" => {
                let choices = rule.as_array().unwrap();
                choices.iter().filter(|choice| validate(choice, value, root, at).is_ok()).count() == 1
            }
            "anyOf" => {
                let choices = rule.as_array().unwrap();
                choices.iter().any(|choice| validate(choice, value, root, at).is_ok())
            }
            other => panic!("the validator does not know `{other}` ({at})"),
        };
        if !fits {
            return Err(format!("{at} does not fit {keyword} {rule}"));
        }
    }
    Ok(())
}

fn schema(of: Subject) -> Value {
    serde_json::from_str(&text(of).unwrap()).unwrap()
}

#[test]
fn every_sample_is_an_event() {
    let schema = schema(Subject::Event);
    let mut samples = 0;
    for file in fs::read_dir("tests/samples").unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("event_") {
            let body = fs::read(&path).unwrap();
            assert!(Event::parse(&body).is_ok(), "{name}");
            assert_eq!(validate(&schema, &serde_json::from_slice(&body).unwrap(), &schema, &name), Ok(()));
            samples += 1;
        }
    }
    assert!(samples >= 7, "{samples} samples");
}

#[test]
fn what_is_no_event_does_not_fit() {
    let schema = schema(Subject::Event);
    let body = br#"{"id":"1","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{}}"#;
    assert!(Event::parse(body).is_err());
    let value = serde_json::from_slice(body).unwrap();
    let refusal = validate(&schema, &value, &schema, "$").unwrap_err();
    assert_eq!(refusal, r#"$.resource does not fit required ["id"]"#);
}

#[test]
fn attributes_and_event_are_a_delivery() {
    let schema = schema(Subject::Delivery);
    let attributes = Attributes {
        specversion: "1.0",
        id: DeliveryId::new("evt-0003"),
        source: "https://api.oxlin.io/v2.1".to_owned(),
        cloud_type: "com.linxo.connections.updated".to_owned(),
        subject: ConnectionId::new("700001"),
        time: Some("2023-11-14T22:13:25Z".to_owned()),
        datacontenttype: "application/json",
        linxouser: Some(UserId::new("300001")),
        linxochannel: Some(ChannelDefinitionId::new("50001")),
        linxomode: Some("REDIRECT".to_owned()),
        linxocompletion: Completion::Api,
        linxoaccounts: 137,
        linxomismatch: true,
        linxostale: true,
        linxomerged: vec![DeliveryId::new("evt-0002"), DeliveryId::new("evt-0003")],
    };
    let mut delivery = serde_json::to_value(attributes).unwrap();
    let known = schema["properties"].as_object().unwrap();
    assert!(delivery.as_object().unwrap().keys().all(|name| known.contains_key(name)));
    delivery["data"] = serde_json::from_slice(&fs::read("tests/samples/event_minimal.json").unwrap()).unwrap();
    assert_eq!(validate(&schema, &delivery, &schema, "$"), Ok(()));
}

#[test]
fn a_configuration_fits_its_schema() {
    let schema = schema(Subject::Config);
    let fine = json!({
        "listener": { "address": "0.0.0.0:8443", "max_connections": 4096, "max_body": "1 MiB" },
        "tls": { "clients": { "mode": "required", "authorities": ["certs/ca.pem"] } },
        "sender": { "path_secret": [{ "file": "new" }, { "env": "OLD" }] },
        "sink": [{ "name": "app", "type": "http", "url": "https://app.internal/", "secret": { "env": "S" },
                   "headers": { "X-Team": "bank", "X-Key": { "file": "key" } } }]
    });
    assert_eq!(validate(&schema, &fine, &schema, "$"), Ok(()));
    for wrong in [
        json!({ "listener": { "adress": "0.0.0.0:8443" } }),
        json!({ "listener": { "max_connections": "4096" } }),
        json!({ "listener": { "max_connections": 0 } }),
        json!({ "admin": { "token": "canary" } }),
        json!({ "sink": [{ "type": "stdout" }] }),
        json!({ "sink": [] }),
        json!({ "log": { "level": "loud" } }),
    ] {
        assert!(validate(&schema, &wrong, &schema, "$").is_err(), "{wrong}");
    }
}

#[test]
fn every_schema_can_be_printed() {
    for of in [Subject::Config, Subject::Event, Subject::Delivery] {
        assert_eq!(schema(of)["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}
