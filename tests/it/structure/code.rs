//! Rust code as words, and the paths that it writes down. A small reader of our own, because it must also see into macros, where
//! a parser sees only tokens.

use std::collections::BTreeMap;

/// One word or sign of the code. `::` is one sign.
pub(super) type Word = String;

/// A name that a `use` brings in, and the path it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) name: String,
    pub(super) path: Vec<String>,
}

/// What one module says, without the modules inside it and without tests.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    /// From every `use`; a name `*` stands for all names.
    pub(super) imports: Vec<Import>,
    /// Paths of two segments and more outside of `use`.
    pub(super) paths: Vec<Vec<String>>,
    /// Modules of files of their own, in `mod name;`.
    pub(super) files: Vec<String>,
    /// Macros, in `macro_rules! name`.
    pub(super) macros: Vec<String>,
    /// Modules in braces, in `mod name { ... }`.
    pub(super) inside: BTreeMap<String, Text>,
}

/// The code without comments and without what stands in quotation marks.
pub(super) fn words(text: &str) -> Vec<Word> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let here = get(at);
        match here {
            '/' if get(at + 1) == '/' => {
                while at < chars.len() && get(at) != '\n' {
                    at += 1;
                }
            }
            'r' | 'b' | 'c' if raw_string(&chars, at).is_some() => at = raw_string(&chars, at).unwrap(),
            '"' => {
                at += 1;
                while at < chars.len() && get(at) != '"' {
                    at += if get(at) == '\\' { 2 } else { 1 };
                }
                at += 1;
            }
            // A character, unless it is a lifetime.
            '\'' if get(at + 1) == '\\' || get(at + 2) == '\'' => {
                at += if get(at + 1) == '\\' { 3 } else { 2 };
                while at < chars.len() && get(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let start = at;
                while get(at).is_alphanumeric() || get(at) == '_' {
                    at += 1;
                }
                found.push(chars[start..at].iter().collect());
            }
            ':' if get(at + 1) == ':' => {
                found.push("::".to_owned());
                at += 2;
            }
            c => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                at += 1;
            }
        }
    }
    found
}

/// Behind the end of a text like `r#"..."#`, if one begins here.
fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    while chars.get(at).is_some_and(|c| "rbc".contains(*c)) {
        at += 1;
    }
    let is_raw = chars[start..at].contains(&'r');
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    if !is_raw || chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let behind = at + hashes + 1;
    let found = chars[behind..].windows(end.len()).position(|window| window == end)?;
    Some(behind + found + end.len())
}

/// Reads a module's words. What is marked `#[cfg(test)]` is left out.
pub(super) fn read(words: &[Word]) -> Text {
    let mut text = Text::default();
    let mut at = 0;
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    while at < words.len() {
        if words[at..].iter().take(7).map(String::as_str).eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = behind_item(words, at + 7);
        } else if word(at) == "use" && is_start(words, at) {
            let end = at + words[at..].iter().position(|word| word == ";").unwrap_or(words.len() - at);
            imports(&words[at + 1..end], &mut Vec::new(), &mut text.imports);
            at = end;
        } else if word(at) == "pub" && word(at + 1) == "(" {
            // `pub(in a::b)` says who may use this, and uses nothing.
            at += words[at..].iter().position(|word| word == ")").unwrap_or(1);
        } else if word(at) == "mod" && is_name(word(at + 1)) && word(at + 2) == ";" {
            text.files.push(word(at + 1).to_owned());
            at += 3;
        } else if word(at) == "mod" && is_name(word(at + 1)) && word(at + 2) == "{" {
            let end = behind_braces(words, at + 2);
            text.inside.insert(word(at + 1).to_owned(), read(&words[at + 3..end - 1]));
            at = end;
        } else if word(at) == "macro_rules" && word(at + 1) == "!" {
            text.macros.push(word(at + 2).to_owned());
            at += 3;
        } else if is_name(word(at)) && word(at + 1) == "::" && (at == 0 || word(at - 1) != "::") {
            // `$crate::` in a macro is resolved as `crate::`: the macro's own crate.
            let mut path = vec![word(at).to_owned()];
            at += 1;
            while word(at) == "::" && is_name(word(at + 1)) {
                path.push(word(at + 1).to_owned());
                at += 2;
            }
            text.paths.push(path);
        } else {
            at += 1;
        }
    }
    text
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Whether a statement can begin here: `use` is also the word of captured lifetimes, `impl Trait + use<'a>`.
fn is_start(words: &[Word], at: usize) -> bool {
    words.get(at + 1).is_some_and(|next| is_name(next) || next == "::" || next == "{")
}

/// Behind the item that begins here: behind its braces or its semicolon, further attributes included.
fn behind_item(words: &[Word], mut at: usize) -> usize {
    let mut depth = 0_i32;
    while at < words.len() {
        match words[at].as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            ";" | "," if depth == 0 => return at + 1,
            "{" if depth == 0 => {
                let end = behind_braces(words, at);
                // `use a::{b};`
                return if words.get(end).is_some_and(|word| word == ";") { end + 1 } else { end };
            }
            _ => {}
        }
        at += 1;
    }
    at
}

/// Behind the brace that closes the one here.
fn behind_braces(words: &[Word], mut at: usize) -> usize {
    let mut depth = 0_i32;
    while at < words.len() {
        match words[at].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The names that the tree of a `use` brings in.
fn imports(words: &[Word], before: &mut Vec<String>, found: &mut Vec<Import>) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let (depth, mut at) = (before.len(), 0);
    while at < words.len() {
        match word(at) {
            "::" => at += 1,
            "{" => {
                let end = behind_braces(words, at);
                for part in parts(&words[at + 1..end - 1]) {
                    imports(part, before, found);
                }
                before.truncate(depth);
                return;
            }
            "as" => {
                found.push(Import { name: word(at + 1).to_owned(), path: before.clone() });
                before.truncate(depth);
                return;
            }
            name => {
                before.push(name.to_owned());
                at += 1;
            }
        }
    }
    // `a::{self}` brings in `a`.
    if before.len() > 1 && before.last().is_some_and(|last| last == "self") {
        before.pop();
    }
    if let Some(name) = before.last() {
        found.push(Import { name: name.clone(), path: before.clone() });
    }
    before.truncate(depth);
}

/// What stands between the commas of a tree, at its own depth.
fn parts(words: &[Word]) -> Vec<&[Word]> {
    let (mut parts, mut depth, mut first) = (Vec::new(), 0_i32, 0);
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                parts.push(&words[first..at]);
                first = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&words[first..]);
    parts.retain(|part| !part.is_empty());
    parts
}

#[test]
fn imports_and_paths_are_found_however_they_are_written() {
    let code = r##"
        use crate::a; // use crate::no;
        pub(crate) use super::{b, c::{self, d as e}, f::*};
        let x = "use crate::no;"; let y = r#"crate::no"#; let z = '"';
        fn g<'a>(h: crate::h::I) -> impl J + use<'a> { k::l() }
        #[cfg(test)] use crate::{no};
        #[cfg(test)] mod tests { use crate::no; }
        mod m;
        pub mod n { use super::o; }
    "##;
    let text = read(&words(code));
    let imports: Vec<String> =
        text.imports.iter().map(|import| format!("{}={}", import.name, import.path.join("::"))).collect();
    assert_eq!(imports, ["a=crate::a", "b=super::b", "c=super::c", "e=super::c::d", "*=super::f::*"]);
    assert_eq!(text.paths.iter().map(|path| path.join("::")).collect::<Vec<_>>(), ["crate::h::I", "k::l"]);
    assert_eq!(text.files, ["m"]);
    assert_eq!(text.inside["n"].imports[0].path, ["super", "o"]);
}
