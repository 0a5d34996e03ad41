//! The words of the log: `docs/logs.md` has every message with its code and its fields, and no others.
//!
//! The table of messages is made from the source: `BLESS=1 cargo test --test it logs` writes it again.

use crate::{
    metrics::rows,
    readme::root,
    support::{LIMIT, Site, event_json},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStderr,
    time::timeout,
};

/// What the source says of one code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    levels: BTreeSet<&'static str>,
    texts: BTreeSet<String>,
    fields: BTreeSet<String>,
    places: Vec<String>,
}

/// The code of the service and its crates, without tests.
fn sources() -> Vec<PathBuf> {
    let mut left: Vec<PathBuf> = vec![root().join("src")];
    left.extend(fs::read_dir(root().join("crates")).unwrap().map(|folder| folder.unwrap().path().join("src")));
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                left.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !name.ends_with("tests") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The arguments of a call that begins behind its bracket: cut at the commas of its own level.
fn arguments(text: &str) -> Vec<String> {
    let (mut found, mut depth, mut is_text) = (vec![String::new()], 0, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_text = !is_text,
            '\\' if is_text => {
                found.last_mut().unwrap().extend([c, chars.next().unwrap()]);
                continue;
            }
            '(' | '[' | '{' if !is_text => depth += 1,
            ')' | ']' | '}' if !is_text && depth == 0 => break,
            ')' | ']' | '}' if !is_text => depth -= 1,
            ',' if !is_text && depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(c);
    }
    let trimmed = found.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// What is logged, by code. Every call must have one as its first field.
fn messages() -> BTreeMap<String, Message> {
    let calls = [
        ("tracing::error!(", &["error"][..]),
        ("tracing::warn!(", &["warn"]),
        ("tracing::info!(", &["info"]),
        ("tracing::debug!(", &["debug"]),
        ("tracing::trace!(", &["trace"]),
        ("log_refusal!(", &["warn", "debug"]),
    ];
    let mut found: BTreeMap<String, Message> = BTreeMap::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        // Tests at the end of a file log what they like.
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let is_other =
            |line: &str| ["error!(", "warn!(", "info!(", "debug!("].iter().any(|call| line.trim().starts_with(call));
        assert!(!code.lines().any(is_other), "{} logs without `tracing::`", file.display());
        for (call, levels) in calls {
            for (at, _) in code.match_indices(call) {
                let mut arguments = arguments(&code[at + call.len()..]);
                // The macro that the others are made with.
                if arguments.iter().any(|argument| argument.contains("$(")) {
                    continue;
                }
                let place = format!("{}:{}", relative(&file), code[..at].lines().count() + 1);
                if call == "log_refusal!(" {
                    arguments.splice(..2, ["reason = its word".to_owned()]);
                }
                let mut fields: Vec<String> = Vec::new();
                let mut said = None;
                for argument in arguments {
                    if let Some(text) = argument.strip_prefix('"') {
                        said = Some(text.rsplit_once('"').unwrap().0.to_owned());
                        break;
                    }
                    fields.push(argument);
                }
                let is_code = |field: &String| Some(field.strip_prefix("code = \"")?.trim_end_matches('"').to_owned());
                let code = fields.iter().find_map(is_code);
                let code = code.unwrap_or_else(|| panic!("{place} has no code: `code = \"...\"` is missing"));
                let message = found.entry(code).or_default();
                message.levels.extend(levels);
                message.texts.insert(plain(&said.unwrap_or_else(|| panic!("{place} says nothing"))));
                let names =
                    fields.iter().map(|field| field.split(" = ").next().unwrap().trim_start_matches(['%', '?']));
                message.fields.extend(names.filter(|name| *name != "code").map(str::to_owned));
                message.places.push(place);
            }
        }
    }
    found
}

fn relative(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// A text as it is written, on one line.
fn plain(text: &str) -> String {
    text.replace("\\\n", "").replace("\\\"", "\"").split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

const HEAD: &str = "\n## Messages\n";

/// The table of all messages.
fn table(messages: &BTreeMap<String, Message>) -> String {
    let mut table = String::from("\n| code | level | message | fields |\n| --- | --- | --- | --- |\n");
    for (code, message) in messages {
        let levels: Vec<_> = ["error", "warn", "info", "debug", "trace"]
            .into_iter()
            .filter(|level| message.levels.contains(level))
            .collect();
        let fields: Vec<_> = message.fields.iter().map(|field| format!("`{field}`")).collect();
        let text = message.texts.first().unwrap();
        writeln!(table, "| `{code}` | {} | {text} | {} |", levels.join(", "), fields.join(", ")).unwrap();
    }
    table.replace("  |", " |")
}

fn document() -> (PathBuf, String) {
    let path = root().join("docs/logs.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// (F9) A code stands for one message, and a message has one code.
#[test]
fn every_line_has_a_code_of_its_own() {
    let messages = messages();
    assert!(messages.len() > 90, "{}", messages.len());
    let mut texts = BTreeMap::new();
    for (code, message) in &messages {
        assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{code}");
        assert_eq!(message.texts.len(), 1, "{code} says several things: {message:#?}");
        let text = message.texts.first().unwrap();
        if !["{warning}", "{problem}"].contains(&text.as_str()) {
            let other = texts.insert(text.clone(), code);
            assert_eq!(other, None, "{code} says the same: {text}");
        }
    }
}

/// (F9) Whoever searches the log finds in one place what there is to be found.
#[test]
fn the_document_has_every_message_and_every_field() {
    let messages = messages();
    let (path, text) = document();
    let (before, found) = text.split_once(HEAD).unwrap();
    let expected = table(&messages);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{HEAD}{expected}")).unwrap();
    } else {
        assert!(found == expected, "docs/logs.md is not up to date: BLESS=1 cargo test --test it logs");
    }
    let documented: BTreeSet<String> = rows(before)
        .into_iter()
        .filter(|row| row[0].starts_with('`'))
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let always = ["timestamp", "level", "target", "message", "code"].map(str::to_owned);
    let used: BTreeSet<String> = messages.values().flat_map(|message| message.fields.clone()).chain(always).collect();
    assert_eq!(documented, used);
}

/// (F9) The failure of something stands under `error`, whatever it is.
#[test]
fn no_field_is_a_second_name_of_another() {
    let used: BTreeSet<String> = messages().into_values().flat_map(|message| message.fields).collect();
    for other in ["problem", "failure", "err", "why", "cause", "file", "id", "ms", "connection", "event", "user"] {
        assert!(!used.contains(other), "{other}");
    }
}

/// (F9) Whoever follows the runbook finds the lines that it names.
#[test]
fn codes_in_the_runbook_are_there() {
    let (messages, runbook) = (messages(), fs::read_to_string(root().join("docs/runbook.md")).unwrap());
    let text = runbook.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut tried = 0;
    for (_, sentence) in text.split(['.', ',', ';', ':']).filter_map(|sentence| sentence.split_once("log line")) {
        if !sentence.starts_with(" `") && !sentence.starts_with("s `") {
            continue;
        }
        for code in sentence.split('`').skip(1).step_by(2) {
            tried += 1;
            assert!(messages.contains_key(code), "{code}");
        }
    }
    assert!(tried > 10, "{tried}");
}

/// The log of a service in a process of its own.
struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    /// Reads on until a line with this code.
    async fn until(&mut self, code: &str) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let line = timeout(LIMIT, self.0.next_line()).await.expect("a line in time").unwrap().expect("no end");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["code"] == code {
                return (before, line);
            }
            before.push(line);
        }
    }
}

/// (F9) More is written as soon as the configuration says so, without a restart; every line has a code that is documented.
#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_a_running_service_changes_with_its_configuration() {
    let mut site = Site::new();
    site.file_sink("file");
    let mut command = site.command(&["serve"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    let mut log = Log(BufReader::new(child.stderr.take().unwrap()).lines());
    let (mut lines, listening) = log.until("listening").await;
    let door = site.door(listening["address"].as_str().unwrap().parse().unwrap());

    site.set("log.level", "\"warn\"").file();
    lines.extend(log.until("log_level_changed").await.0);
    door.accept(event_json("1", "7", 1, false)).await;
    site.set("log.level", "\"debug\"").file();
    let (quiet, changed) = log.until("log_level_changed").await;
    assert_eq!(changed["lowest"], "debug");
    assert!(quiet.iter().all(|line| !["INFO", "DEBUG"].contains(&line["level"].as_str().unwrap())), "{quiet:?}");
    door.accept(event_json("2", "7", 1, false)).await;
    let (more, accepted) = log.until("event_accepted").await;
    assert_eq!(accepted["event.id"], "2");
    lines.extend([quiet, more, vec![changed, accepted]].concat());

    kill_process(id, Signal::TERM).unwrap();
    lines.extend(log.until("drained").await.0);
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
    let messages = messages();
    for line in lines {
        assert!(line["code"].as_str().is_some_and(|code| messages.contains_key(code)), "{line}");
        assert_ne!(line["code"], "restart_needed", "{line}");
    }
}
