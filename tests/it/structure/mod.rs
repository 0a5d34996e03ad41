//! The layout of the code: one direction, no circles, no file too long to be read in one sitting.
//!
//! | what | how it is held |
//! | --- | --- |
//! | crates depend only along the flow | their `Cargo.toml` files, and the compiler |
//! | a module of `src/` uses only what stands above it in `src/lib.rs` | the names behind `crate::` |
//! | the tables of files in some crates' heads are in order | as the module order |
//! | no file uses, by whatever way, a file that uses it | every path in the code, followed to the file of what it names |
//! | a file of the program is at most 500 lines long | counted |
//! | the container is built of all that it needs | what the `Dockerfile` copies |
//!
//! A path is followed as the compiler does: `crate`, `super`, `self`, modules, names that a `use` brought in, and names that
//! another module hands on with `pub use`. `use crate::{Tls}` where `lib.rs` says `pub use tls::Tls` is thus a use of
//! `tls.rs`, and none of `lib.rs`. Code under `#[cfg(test)]` is left out, because a test may use everything. Not seen:
//! methods, for which no path is written; but whoever has a value of a type has its path somewhere, or got it from
//! somebody who has.

mod code;
mod graph;

use graph::{Crate, circle};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file at most: of the program, and of tests.
const LONGEST: [(&[&str], usize); 2] = [(&["src", "crates", "benches"], 500), (&["tests"], 600)];

/// The crate whose table of files is still to be put in order.
const UNSORTED: &str = "linxo";

/// Crates in the order of the flow, each with those that it may depend on. `double` stands beside the flow.
const FLOW: [(&str, &[&str]); 8] = [
    ("base", &[]),
    ("event", &["base"]),
    ("settings", &["base", "event"]),
    ("inbox", &["base", "event", "settings"]),
    ("linxo", &["base", "event", "settings"]),
    ("delivery", &["base", "event", "settings"]),
    ("double", &["base", "event", "settings"]),
    ("linxo-webhook", &["base", "event", "settings", "inbox", "linxo", "delivery", "double"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The folder of each crate, by the crate's name.
fn crates() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::from([("linxo-webhook".to_owned(), root().to_owned())]);
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), path);
    }
    found
}

/// The keys of a section of a manifest, each without what follows its first dot.
fn keys(manifest: &str, section: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once(['.', ' ', '='])?.0.to_owned())).collect()
}

#[test]
fn crates_depend_only_along_the_flow() {
    let found = crates();
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), FLOW.iter().map(|(name, _)| *name).collect());
    let names: BTreeSet<String> = found.keys().cloned().collect();
    for (name, allowed) in FLOW {
        let manifest = fs::read_to_string(found[name].join("Cargo.toml")).unwrap();
        let used: Vec<String> = keys(&manifest, "dependencies").intersection(&names).cloned().collect();
        for used in &used {
            assert!(allowed.contains(&used.as_str()), "{name} depends on {used}");
        }
        // Tests may use the double too.
        for used in keys(&manifest, "dev-dependencies").intersection(&names) {
            assert!(allowed.contains(&used.as_str()) || used == "double", "the tests of {name} depend on {used}");
        }
        if name == "linxo-webhook" {
            assert_eq!(used.len(), FLOW.len() - 1, "the service uses every crate: {used:?}");
        }
    }
}

#[test]
fn the_container_builds_the_dependencies_of_every_crate() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    for name in crates().keys().filter(|name| *name != "linxo-webhook") {
        let line = format!("\nCOPY crates/{name}/Cargo.toml crates/{name}/\n");
        assert!(dockerfile.contains(&line), "the Dockerfile does not copy the manifest of {name}");
    }
}

#[test]
fn the_container_has_every_file_that_is_built_in() {
    let copied: Vec<PathBuf> = fs::read_to_string(root().join("Dockerfile"))
        .unwrap()
        .lines()
        .filter_map(|line| Some(root().join(line.strip_prefix("COPY ")?.split_once(' ')?.0)))
        .collect();
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        sources(&root().join(folder), &mut files);
    }
    let mut seen = 0;
    for file in files.into_iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        for rest in ["include_str!(\"", "include_bytes!(\""].iter().flat_map(|start| text.split(start).skip(1)) {
            let (name, _) = rest.split_once('"').unwrap();
            let path = fs::canonicalize(file.parent().unwrap().join(name)).unwrap();
            assert!(copied.iter().any(|copied| path.starts_with(copied)), "the Dockerfile does not copy {name}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn no_file_uses_a_file_that_uses_it() {
    let mut seen = 0;
    for (name, folder) in crates() {
        let found = Crate::read(&folder.join("src/lib.rs"));
        let uses = found.uses();
        seen += uses.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(circle(&uses), None, "a circle in {name}");
    }
    assert!(seen > 400, "the uses were found at all: {seen}");
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let module = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    let order: Vec<String> = lib.lines().filter_map(module).collect();
    let place = |file: &str| {
        let name = file.split('/').next().unwrap().trim_end_matches(".rs");
        order.iter().position(|found| found == name)
    };
    let found = Crate::read(&root().join("src/lib.rs"));
    let mut seen = 0;
    for (file, used) in found.uses() {
        for used in used.into_iter().filter(|_| file != "lib.rs") {
            let (mine, theirs) = (place(file), place(used));
            assert!(mine.is_some() && theirs <= mine, "{file} uses {used}, which stands below it in src/lib.rs");
            seen += 1;
        }
    }
    assert!(seen > 100, "the uses were found at all: {seen}");
}

/// The names of each row of the table in a crate's head, without rows of other tables; lower case.
fn rows(head: &str) -> Vec<Vec<String>> {
    let cells = head.lines().filter_map(|line| line.strip_prefix("//! |")?.split('|').next());
    cells
        .map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_lowercase).collect())
        .filter(|row: &Vec<String>| !row.is_empty())
        .collect()
}

#[test]
fn a_table_that_says_the_order_of_its_files_is_right() {
    let mut tables = 0;
    for (name, folder) in crates() {
        let head = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        let is_in_order =
            ["only files above it in this table", "only modules above it in this table", "only what stands above it:"];
        if !is_in_order.iter().any(|promise| head.contains(promise)) {
            continue;
        }
        tables += 1;
        if name == UNSORTED {
            continue;
        }
        let rows = rows(&head);
        let place = |file: &str| {
            let module = file.split('/').next().unwrap().trim_end_matches(".rs");
            rows.iter().position(|row| row.iter().any(|name| name == module))
        };
        let found = Crate::read(&folder.join("src/lib.rs"));
        for (file, used) in found.uses().into_iter().filter(|(file, _)| *file != "lib.rs") {
            for used in used.into_iter().filter(|used| *used != "lib.rs") {
                // Small files that the table leaves out have no place.
                let (Some(mine), Some(theirs)) = (place(file), place(used)) else { continue };
                assert!(theirs <= mine, "{name}: {file} uses {used}, which stands below it in the table of lib.rs");
            }
        }
    }
    assert!(tables >= 3, "{tables}");
}

#[test]
fn no_file_is_too_long() {
    for (folders, longest) in LONGEST {
        let mut files = Vec::new();
        for folder in folders {
            sources(&root().join(folder), &mut files);
        }
        for file in files {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= longest, "{} has {lines} lines: cut it where its subjects part", file.display());
        }
    }
}
