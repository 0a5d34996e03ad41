//! `[[sink]]`: where completed events go. Without any, they go to standard output.

use super::{
    keys,
    problems::Problem,
    reader::{Flaw, Read, Reader, Reported, Section},
    units, urls,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use config::{Value, ValueKind};
use delivery::{
    Kind, Settings, SinkName,
    kinds::{file, http, stdout},
};
use std::{collections::HashMap, path::Path};

/// Every sink, in the order of the file.
pub(super) fn sinks(reader: &mut Reader<'_>) -> Read<Vec<Settings>> {
    let Some(value) = reader.at("sink") else { return Ok(vec![standard_output()]) };
    // Anything else than a list was reported as such when the tree was gathered.
    let ValueKind::Array(list) = &value.kind else { return Err(Reported) };
    if list.is_empty() {
        let problem = Problem::new("sink", "is an empty list")
            .from(value.origin())
            .hint("name a destination, or remove the key for standard output");
        return Err(reader.report(problem));
    }
    let mut sinks = Vec::new();
    for index in 0..list.len() {
        sinks.push(sink(&mut reader.entry("sink", "sink.*", index)));
    }
    let mut first = HashMap::new();
    for (index, entry) in list.iter().enumerate() {
        let ValueKind::Table(members) = &entry.kind else { continue };
        let Some(Value { kind: ValueKind::String(name), .. }) = members.get("name") else { continue };
        if let Some(other) = first.insert(name, index) {
            let hint = "give each sink its own name: the inbox keeps track of deliveries by it";
            let flaw = Flaw::new(format!("is also the name of sink.{other}"), hint);
            sinks.push(Err(reader.entry("sink", "sink.*", index).flawed("name", flaw)));
        }
    }
    sinks.into_iter().collect()
}

/// What takes the events when no sink is configured.
fn standard_output() -> Settings {
    let retry_for = keys::find("sink.*.retry_for")
        .and_then(|key| key.default)
        .and_then(|text| units::duration(text).ok())
        .unwrap_or_default();
    Settings { name: SinkName::new("stdout"), retry_for, kind: Kind::Stdout(stdout::Settings) }
}

#[derive(Clone, Copy)]
enum Type {
    Stdout,
    File,
    Http,
}

fn sink(section: &mut Section<'_, '_>) -> Read<Settings> {
    let name = section.text("name", sink_name);
    let sink_type = section.word("type", |word| match word {
        "stdout" => Some((Type::Stdout, "stdout")),
        "file" => Some((Type::File, "file")),
        "http" => Some((Type::Http, "http")),
        _ => None,
    });
    let retry_for = section.duration("retry_for");
    let kind = sink_type.and_then(|(sink_type, word)| {
        section.refuse_misplaced("type", word);
        match sink_type {
            Type::Stdout => Ok(Kind::Stdout(stdout::Settings)),
            Type::File => file(section).map(Kind::File),
            Type::Http => http(section).map(Kind::Http),
        }
    });
    Ok(Settings { name: name?, retry_for: retry_for?, kind: kind? })
}

/// Names become metric labels and are typed on command lines.
fn sink_name(text: &str) -> Result<SinkName, Flaw> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if text.len() <= 64 && text.bytes().all(is_plain) {
        Ok(SinkName::new(text))
    } else {
        Err(Flaw::new("is not a name", "use 1 to 64 of: a to z, digits, `-` and `_`"))
    }
}

fn file(section: &mut Section<'_, '_>) -> Read<file::Settings> {
    let path = section.path("path")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    section.must_be_folder("path", folder)?;
    if path.is_dir() {
        return Err(section.flawed("path", Flaw::from("is a folder, not a file")));
    }
    Ok(file::Settings { path })
}

fn http(section: &mut Section<'_, '_>) -> Read<http::Settings> {
    let url = section.text("url", urls::destination);
    let secrets = section.secrets("secret", signing_secret);
    let timeout = section.duration("timeout");
    let authorities = section.readable_files("authorities");
    Ok(http::Settings { url: url?.into(), secrets: secrets?, timeout: timeout?, authorities: authorities? })
}

/// Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
fn signing_secret(text: &str) -> Result<(), Flaw> {
    let bytes = text.strip_prefix("whsec_").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    if bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len())) {
        Ok(())
    } else {
        Err(Flaw::new(
            "is not a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes",
            "make one with `echo whsec_$(openssl rand -base64 32)`",
        ))
    }
}
