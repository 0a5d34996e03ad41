//! What documents and comments name is there: paths, crates, modules, types, functions, tests.
//!
//! In documents, names are read where they stand between backticks: paths from the top of the repository; names with `::`;
//! types in documents about the code; tests behind the path of their file. In comments and scripts, paths are read
//! wherever they stand, and numbers of decisions. What is not held: whether a sentence about a name is true.

use super::readme::{comments, documents, root};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Folders at the top whose paths are checked. Those of configuration and certificates hold users' own files too.
const FOLDERS: [&str; 10] =
    ["src/", "crates/", "tests/", "docs/", "deploy/", "benches/", "examples/", "fuzz/", "proof/", ".ci/"];

/// What `docs/threat-model.md` writes for the folders of most tests.
const SHORT: [(&str, &str); 2] = [("receive/", "src/receive/tests/"), ("it/", "tests/it/")];

/// Names of others' libraries, standards and languages in documents about the code.
const FOREIGN: [&str; 8] = ["axum", "Router", "middleware", "from_fn", "hyper", "hyper_util", "RawValue", "UNNEST"];

/// Every name that the code declares: crates, modules, types, functions, constants, variants, tables of the store.
fn declared() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files(&["src", "crates", "tests", "benches"], &["rs", "sql"]) {
        names.insert(file.file_stem().unwrap().to_str().unwrap().to_owned());
        names.insert(file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned());
        let text = fs::read_to_string(&file).unwrap();
        // Comments are not code.
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        names.extend(code.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
    }
    for folder in fs::read_dir(root().join("crates")).unwrap() {
        names.insert(folder.unwrap().file_name().into_string().unwrap());
    }
    names
}

/// Every file with one of the endings below folders of the repository.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut left: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                left.push(path);
            } else if endings.is_empty()
                || path.extension().is_some_and(|end| endings.iter().any(|wanted| *wanted == end))
            {
                found.push(path);
            }
        }
    }
    found
}

/// What stands between backticks outside of blocks, in order.
fn spans(text: &str) -> Vec<String> {
    let mut is_block = false;
    let prose: Vec<&str> = text
        .lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_block ^= is_fence;
            !is_block && !is_fence
        })
        .collect();
    // A span may be broken over two lines.
    prose.join("\n").split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// Whether a path is there: as it is, or without the ending of its file. `<kind>` and `*` stand for any name.
fn is_there(path: &str) -> bool {
    fn below(folder: &Path, parts: &[&str]) -> bool {
        let Some((part, rest)) = parts.split_first() else { return true };
        if part.contains(['<', '*']) {
            let mut entries = fs::read_dir(folder).into_iter().flatten();
            return entries.any(|entry| below(&entry.unwrap().path(), rest));
        }
        let path = folder.join(part);
        if rest.is_empty() { path.exists() || path.with_extension("rs").exists() } else { below(&path, rest) }
    }
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    below(root(), &parts)
}

fn is_path(text: &str) -> bool {
    FOLDERS.iter().any(|folder| text.starts_with(folder)) && !text.contains(' ')
}

/// A type's name, such as `FetchFigures`; no single word of capitals, and no header such as `Retry-After`.
fn is_type(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(char::is_alphanumeric)
        && text.chars().any(|c| c.is_ascii_lowercase())
}

/// A name such as `inbox::Queue`.
fn is_qualified(text: &str) -> bool {
    text.contains("::")
        && text.starts_with(char::is_alphabetic)
        && text.chars().all(|c| c.is_alphanumeric() || "_:!()".contains(c))
}

/// The beginning of a test's name, such as `a_caller...`.
fn is_test(text: &str) -> bool {
    text.strip_suffix("...")
        .is_some_and(|start| start.contains('_') && start.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Whether a test, or several, begin with a name in a file or a folder.
fn has_test(path: &str, name: &str) -> bool {
    let start = format!("fn {}", name.trim_end_matches("..."));
    let mut whole = root().join(path);
    if !whole.exists() {
        whole.set_extension("rs");
    }
    let found = if whole.is_dir() { files(&[path], &["rs"]) } else { vec![whole] };
    found.iter().any(|file| fs::read_to_string(file).unwrap_or_default().contains(&start))
}

#[test]
fn paths_and_names_in_documents_are_there() {
    let declared = declared();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let name = document.strip_prefix(root()).unwrap().display().to_string();
        // Documents about the code name types as single words; others so name what the vendor or HTTP has.
        let is_about_code =
            ["docs/architecture.md", "docs/decisions", "CONTRIBUTING.md"].iter().any(|start| name.starts_with(start));
        let mut path = String::new();
        for span in spans(&text) {
            let long = SHORT.iter().find_map(|(short, long)| Some(format!("{long}{}", span.strip_prefix(short)?)));
            let span = long.filter(|_| name == "docs/threat-model.md").unwrap_or(span);
            let is_right = if is_path(&span) {
                path = span.trim_end_matches("...").to_owned();
                is_there(&path)
            } else if is_test(&span) {
                has_test(&path, &span)
            } else if is_qualified(&span) || (is_about_code && is_type(&span)) {
                let parts = span.split("::").map(|part| part.trim_end_matches(['!', '(', ')']));
                parts.into_iter().all(|part| declared.contains(part) || FOREIGN.contains(&part))
            } else {
                continue;
            };
            tried += 1;
            if !is_right {
                wrong.push(format!("{name}: `{span}`"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(tried > 150, "{tried}");
}

/// The paths in a text that is not a document.
fn paths(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for (at, _) in text.match_indices(folder) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "/._-$}*".contains(c)) {
                continue;
            }
            let rest = &text[at..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && !"/._-<>*".contains(c)).unwrap_or(rest.len());
            found.push(rest[..end].trim_end_matches(['.', '-']));
        }
    }
    found
}

#[test]
fn paths_and_decisions_in_comments_and_scripts_are_there() {
    let mut texts = comments();
    let others = files(&[".ci", "deploy"], &[]).into_iter().chain(
        ["Makefile", "Dockerfile", ".dockerignore", "Cargo.toml", "deny.toml", "clippy.toml", "fuzz/Cargo.toml"]
            .map(|name| root().join(name)),
    );
    texts.extend(others.map(|path| (path.clone(), fs::read_to_string(path).unwrap())));
    let decisions: Vec<PathBuf> = files(&["docs/decisions"], &["md"]);
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (file, text) in texts {
        for path in paths(&text) {
            tried += 1;
            // In a crate also from the crate's own folder.
            let within: PathBuf = file.strip_prefix(root()).unwrap().iter().take(2).collect();
            if !is_there(path) && !is_there(&within.join(path).display().to_string()) {
                wrong.push(format!("{}: {path}", file.display()));
            }
        }
        for number in text.split("decision ").skip(1).filter_map(|rest| rest.get(..4)) {
            if number.chars().all(|c| c.is_ascii_digit()) {
                tried += 1;
                if !decisions.iter().any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(number)) {
                    wrong.push(format!("{}: decision {number}", file.display()));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(tried > 30, "{tried}");
}

#[test]
fn what_is_not_there_is_noticed() {
    assert!(
        is_there("src/receive")
            && is_there("tests/it/reload")
            && is_there("crates/delivery/src/kinds/<kind>/settings.rs")
    );
    assert!(!is_there("src/sink/<kind>/settings.rs") && !is_there("src/simulator"));
    assert!(has_test("tests/it/names.rs", "what_is_not...") && !has_test("tests/it/names.rs", "what_is_there"));
    assert_eq!(spans("a `b` c\n```\n`no`\n```\n`d\ne`"), ["b", "d e"]);
    assert_eq!(paths("see `src/a.rs`, x/src/no and docs/b.md."), ["src/a.rs", "docs/b.md"]);
    assert!(is_type("Queue") && !is_type("Retry-After") && !is_type("POST"));
}
