//! Keys that nobody knows, and what was probably meant.

use crate::{
    flaw::Flaw,
    keys::{Table, Tables, join},
    problem::{Place, Problem, entry_title},
    tree::{Content, Node},
};

/// Reports keys and sections that were not declared. Their values are not shown: one may be a misplaced secret.
pub(crate) fn report(node: &Node, tables: &Tables, path: &str, pattern: &str, problems: &mut Vec<Problem>) {
    let list = join(pattern, "*");
    match &node.content {
        Content::Table(table) if !tables.is_section(&list) => {
            for (name, child) in table {
                let (path, below) = (join(path, name), join(pattern, name));
                if tables.find(&below).is_some() {
                    continue;
                }
                if tables.is_section(&below) {
                    report(child, tables, &path, &below, problems);
                } else {
                    problems.push(unknown(tables, &path, name, pattern, &child.place));
                }
            }
        }
        Content::List(entries) if tables.is_section(&list) => {
            let naming = tables.table(&list).and_then(Table::naming);
            for (index, child) in entries.iter().enumerate() {
                let name = naming.and_then(|naming| child.at(naming)?.text());
                report(child, tables, &entry_title(path, name, index), &list, problems);
            }
        }
        // Reading it says what is wrong with it, as with every secret.
        _ if tables.table(&list).is_some_and(Table::may_be_secret) => {}
        _ if tables.is_section(&list) => problems
            .push(Problem::new(path, &node.place, "must be a list of sections").hint(format!("write [[{pattern}]]"))),
        _ => problems.push(section(tables, path, pattern, &node.place)),
    }
}

/// A section that was given as a value.
pub(crate) fn section(tables: &Tables, path: &str, pattern: &str, place: &Place) -> Problem {
    let list = join(pattern, "*");
    let pattern = if tables.is_section(&list) { list.as_str() } else { pattern };
    Problem::new(path, place, "is a section, not a value")
        .hint(format!("it holds: {}", tables.names_in(pattern).join(", ")))
}

/// A key that was not declared.
fn unknown(tables: &Tables, path: &str, name: &str, section: &str, place: &Place) -> Problem {
    let known = tables.names_in(section);
    let problem = Problem::new(path, place, "is not a known key");
    if let Some(candidate) = nearest(name, known.iter().copied()) {
        return problem.hint(format!("did you mean `{candidate}`?"));
    }
    let elsewhere = tables.iter().find(|table| table.keys.iter().any(|key| key.name == name));
    match elsewhere {
        Some(table) => problem.hint(format!("`{name}` belongs to `{}`", table.path.trim_end_matches(".*"))),
        None => problem.hint(format!("known here: {}", known.join(", "))),
    }
}

/// One of these words, which are all of one kind. For lists of words.
///
/// # Errors
/// A flaw that names the nearest word, or else all of them.
pub fn one_of(text: &str, known: &[&'static str]) -> Result<&'static str, Flaw> {
    if let Some(word) = known.iter().find(|word| **word == text) {
        return Ok(word);
    }
    // Who writes the right word in small letters is not far away.
    let hint = nearest(&text.to_uppercase(), known.iter().copied());
    let hint = hint.map_or_else(|| format!("one of: {}", known.join(", ")), |word| format!("did you mean {word:?}?"));
    Err(Flaw::new("is not one of the known words", hint))
}

/// The known name that differs least, if it differs little: in a third of its letters.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
