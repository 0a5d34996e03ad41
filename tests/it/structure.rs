//! The layout of the code: modules in the order of `src/lib.rs` without a cycle, and no file too long to be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Lines of a source file at most.
const LONGEST: usize = 700;

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

/// The code of a file without comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first names behind each `crate::`, whether alone or in braces.
fn uses(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$')) {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let (mut depth, mut first) = (1, 0);
        for (end, c) in group.char_indices() {
            if matches!(c, ',' | '}') && depth == 1 {
                found.insert(name(&group[first..end]));
                first = end + 1;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.remove("");
    found
}

/// Modules in the order of `src/lib.rs`.
fn order() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let module = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    lib.lines().filter_map(module).collect()
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let order = order();
    let place: BTreeMap<&str, usize> = order.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in files {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(mine) = place.get(module) else {
            assert!(["lib", "main"].contains(&module), "{} is in no module of src/lib.rs", inside.display());
            continue;
        };
        for used in uses(&code(&fs::read_to_string(&file).unwrap())) {
            let Some(theirs) = place.get(used.as_str()) else {
                panic!("{} uses crate::{used}, which is not in src/lib.rs", inside.display());
            };
            seen += 1;
            if theirs > mine {
                wrong.push(format!("{} uses {used}, which stands below it", inside.display()));
            }
        }
    }
    // With an order that is total, a use against it is what a cycle would need.
    assert_eq!(wrong, [""; 0]);
    assert!(seen > 40, "the uses were found at all: {seen}");
}

#[test]
fn no_file_is_too_long() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("tests"), &mut files);
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines: cut it where its subjects part", file.display());
    }
}

#[test]
fn uses_are_found_however_they_are_written() {
    let text = "use crate::a; // crate::no\nuse crate::{b, c::{d, e}, f::g,};\nlet x = crate::h::i(); pub(in crate::j) k; $crate::l";
    assert_eq!(uses(&code(text)).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "f", "h", "j"]);
}
