//! What the documents say is tried: configurations, command lines, links.

use clap::Parser;
use double::pki::{Authority, write_identity};
use linxo_webhook::cli::Cli;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that people read.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in
        ["", "docs", "docs/decisions", "certs", "deploy", "deploy/helm/linxo-webhook", "config", "tests/samples"]
    {
        let Ok(entries) = fs::read_dir(root().join(folder)) else { continue };
        found.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|found| found == "md")),
        );
    }
    assert!(found.len() >= 10);
    found
}

/// The blocks of a language in a document.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(found)) => open = Some(if found == language { String::new() } else { "\0".to_owned() }),
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|block| !block.starts_with('\0'))),
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Texts between quotation marks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[test]
fn configurations_in_documents_pass_the_check() {
    let mut tried = 0;
    for document in documents() {
        for block in blocks(&fs::read_to_string(&document).unwrap(), "toml") {
            // The usual build does not have it, and says so.
            if block.contains("type = \"kafka\"") && !cfg!(feature = "kafka") {
                continue;
            }
            // Everything that the block names is there.
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new("test").unwrap();
            for name in ["certs", "secrets", "data", "config"] {
                fs::create_dir(folder.path().join(name)).unwrap();
            }
            let path = |name: &str| folder.path().join(name);
            let server = authority.server(&["localhost"]).unwrap();
            write_identity(&path("certs/server.pem"), &path("certs/server.key"), &server).unwrap();
            for name in quoted(&block)
                .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "key") && !path(name).exists())
            {
                let client = authority.client::<&str>("client", &[]).unwrap();
                write_identity(&path(name).with_extension("pem"), &path(name), &client).unwrap();
            }
            for name in quoted(&block).filter(|name| name.starts_with("certs/") && !path(name).exists()) {
                fs::write(path(name), authority.certificate_pem()).unwrap();
            }
            for name in quoted(&block).filter(|name| name.starts_with("secrets/")) {
                // Each another one, and good as a token and as a signing secret alike: digits are base64 too.
                let digits: String = data_encoding::HEXLOWER.encode(name.as_bytes());
                let headers = if name == "secrets/otlp" { "api-key=" } else { "" };
                fs::write(path(name), format!("{headers}whsec_{digits:0<64.64}")).unwrap();
            }
            fs::write(path("config.toml"), &block).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_linxo-webhook"))
                .args(["check", "--config", "config.toml"])
                // Whatever else listens on this machine.
                .env("LINXO_WEBHOOK__LISTENER__ADDRESS", "127.0.0.1:0")
                .env("LINXO_WEBHOOK__ADMIN__ADDRESS", "127.0.0.1:0")
                .current_dir(folder.path())
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {told}\n{block}", document.display());
            tried += 1;
        }
    }
    assert!(tried > 0);
}

/// The arguments of a command line that calls the program, itself included.
fn call(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default().trim();
    let line =
        line.strip_prefix("cargo run --release -- ").map_or(line.to_owned(), |rest| format!("linxo-webhook {rest}"));
    let words: Vec<String> = line.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect();
    let program = Path::new(words.first()?).file_name()?;
    (program == "linxo-webhook").then_some(words)
}

#[test]
fn command_lines_in_documents_are_understood() {
    let mut tried = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let lines: Vec<String> =
            blocks(&text, "sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        // Also those within sentences, as `linxo-webhook inbox ls`; placeholders are told by their brackets.
        let inline =
            text.split('`').skip(1).step_by(2).filter(|code| !code.contains(['[', '|', '\n'])).map(str::to_owned);
        for words in lines.into_iter().chain(inline).filter_map(|line| call(&line)).filter(|words| words.len() > 1) {
            tried += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: {}\n{error}", document.display(), words.join(" "));
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut tried = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            tried += 1;
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let path = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(path.exists(), "{} links to {target}, which is not there", document.display());
            if let Some(heading) = heading {
                let there = fs::read_to_string(&path).unwrap();
                let found = there.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
                assert!(found, "{} links to {target}, but there is no such heading", document.display());
            }
        }
    }
    assert!(tried > 20, "{tried}");
}

/// Comments of all code, each line without its slashes, joined by spaces.
pub(crate) fn comments() -> Vec<(PathBuf, String)> {
    let (mut folders, mut found) =
        (["src", "crates", "tests", "benches", "fuzz/fuzz_targets"].map(|name| root().join(name)).to_vec(), Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
                let words = lines.map(|line| line.trim_start_matches(['/', '!']).trim());
                found.push((path, words.collect::<Vec<_>>().join(" ")));
            }
        }
    }
    found
}

#[test]
fn documents_and_sections_that_comments_cite_are_there() {
    let mut cited = 0;
    for (file, text) in comments() {
        for (at, _) in text.match_indices("`docs/") {
            let (path, rest) = text[at + 1..].split_once('`').unwrap();
            assert!(root().join(path).exists(), "{} cites {path}, which is not there", file.display());
            let Some(rest) = rest.strip_prefix(" section") else { continue };
            let document = fs::read_to_string(root().join(path)).unwrap();
            // `section 2`, `sections 3 and 8`.
            for number in rest.trim_start_matches('s').split_whitespace().map_while(|word| match word {
                "and" => Some(None),
                word => word.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok().map(Some),
            }) {
                let Some(number) = number else { continue };
                cited += 1;
                let heading = format!("\n## {number}. ");
                assert!(document.contains(&heading), "{} cites section {number} of {path}", file.display());
            }
        }
    }
    assert!(cited > 10, "{cited}");
}
