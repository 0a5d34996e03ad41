//! The line of each value of a TOML text: a second look at the file, because the `config` crate forgets where it read
//! what.

use crate::keys::join;
use std::{collections::HashMap, ops::Range};
use toml::de::{DeTable, DeValue};

/// Lines by path (`sink.0.url`), from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(HashMap<String, usize>);

/// A text that is no TOML. Never quotes the text, which may hold what must not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotToml {
    /// Where it stops to be TOML, from 1.
    pub(crate) line: usize,
    /// What is wrong there.
    pub(crate) message: String,
}

impl Lines {
    /// Reads a text.
    ///
    /// # Errors
    /// Where and why the text is no TOML.
    pub(crate) fn of(text: &str) -> Result<Self, NotToml> {
        let root = DeTable::parse(text).map_err(|error| {
            let start = error.span().map_or(text.len(), |span| span.start);
            let before = text.get(..start).unwrap_or(text);
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            NotToml { line: line_at(text, start), message: format!("at column {column}: {}", error.message().trim()) }
        })?;
        let mut lines = Self::default();
        lines.table(text, root.get_ref(), "")?;
        Ok(lines)
    }

    /// The line of the value at a path; for a table, that of its first heading.
    pub(crate) fn line(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }

    /// How many entries the list at a path has.
    pub(crate) fn entries(&self, path: &str) -> usize {
        (0..usize::MAX).take_while(|index| self.0.contains_key(&join(path, &index.to_string()))).count()
    }

    fn table(&mut self, text: &str, table: &DeTable<'_>, path: &str) -> Result<(), NotToml> {
        for (key, value) in table {
            self.value(text, value.get_ref(), &key.span(), &join(path, key.get_ref()))?;
        }
        Ok(())
    }

    fn value(&mut self, text: &str, value: &DeValue<'_>, span: &Range<usize>, path: &str) -> Result<(), NotToml> {
        let line = line_at(text, span.start);
        self.0.insert(path.to_owned(), line);
        match value {
            DeValue::Table(table) => self.table(text, table, path)?,
            DeValue::Array(list) => {
                for (index, entry) in list.iter().enumerate() {
                    self.value(text, entry.get_ref(), &entry.span(), &join(path, &index.to_string()))?;
                }
            }
            // The parser checks its digits only.
            DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
                return Err(NotToml { line, message: format!("the number of `{path}` is too large") });
            }
            _ => {}
        }
        Ok(())
    }
}

fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\n\n[tls]\nkey = \"a\"\n[tls.clients]\nnames = [\n  \"one\",\n  \"two\",\n]\n\n[[sink]]\nname = \
                        \"a\"\n\n[[sink]]\nname = \"b\"\nsecret = { file = \"x\" }\n\n[linxo.users]\nmode = \"static\"\n";

    #[test]
    fn every_value_has_its_line() {
        let lines = Lines::of(TEXT).unwrap();
        for (path, line) in [
            ("tls", 3),
            ("tls.key", 4),
            ("tls.clients", 5),
            ("tls.clients.names", 6),
            ("tls.clients.names.1", 8),
            ("sink", 11),
            ("sink.0", 11),
            ("sink.0.name", 12),
            ("sink.1", 14),
            ("sink.1.secret", 16),
            ("sink.1.secret.file", 16),
            ("linxo", 18),
            ("linxo.users.mode", 19),
        ] {
            assert_eq!(lines.line(path), Some(line), "{path}");
        }
        assert_eq!(lines.line("tls.missing"), None);
        assert_eq!((lines.entries("sink"), lines.entries("tls"), lines.entries("tls.clients.names")), (2, 0, 2));
    }

    #[test]
    fn what_is_no_toml_is_located_and_not_quoted() {
        let error = Lines::of("a = 1\n\u{e9} = \"canary").unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.message.starts_with("at column ") && !error.message.contains("canary"), "{error:?}");
        let twice = Lines::of("a = 1\na = 2\n").unwrap_err();
        assert_eq!((twice.line, twice.message.as_str()), (2, "at column 1: duplicate key"));
    }
}
