//! Passes over the bytes of a JSON text that need no tree: depth, position, kind, white space.

use crate::malformed::Malformed;
use serde::{
    Deserializer as _,
    de::{self, IgnoredAny},
};
use serde_json::value::RawValue;
use std::fmt;

/// Where a value lies in the body that it was borrowed from.
pub(super) fn offset_in(body: &[u8], value: &str) -> usize {
    (value.as_ptr() as usize).saturating_sub(body.as_ptr() as usize)
}

/// Where nesting first exceeds `limit`, as a byte offset. Needed because skipped values are skipped without a stack,
/// so the parser's own limit never sees them.
pub(super) fn too_deep(text: &[u8], limit: usize) -> Option<usize> {
    // Counting compiles to vector instructions, and most events open fewer brackets in all than may be open at once.
    if text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= limit {
        return None;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (offset, byte) in text.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return Some(offset);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Line and column, both from 1, columns in bytes.
pub(super) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.split(|byte| *byte == b'\n').count().max(1);
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// What a JSON value is, by its first byte.
pub(super) fn kind(value: &str) -> &'static str {
    match value.trim_start_matches([' ', '\t', '\r', '\n']).as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Checks that a text is one JSON value and nothing after it.
pub(super) fn check_syntax(text: &str) -> Result<(), Malformed> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let problem = if error.is_eof() {
                if text.trim_start_matches([' ', '\t', '\r', '\n']).is_empty() {
                    "it is empty"
                } else {
                    "it ends too early"
                }
            } else if error.to_string().starts_with("trailing characters") {
                "something follows the first value"
            } else {
                "unexpected character"
            };
            Err(Malformed::Syntax { problem, line: error.line().max(1), column: error.column().max(1) })
        }
    }
}

/// The raw values of some members of a JSON object; of one that is given twice, the first. All `None` where the text is no
/// object.
pub(super) fn members<'a, const N: usize>(text: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    struct Visitor<'n, const N: usize>([&'n str; N]);
    impl<'de, const N: usize> de::Visitor<'de> for Visitor<'_, N> {
        type Value = [Option<&'de str>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(name) = map.next_key::<String>()? {
                let value: &'de RawValue = map.next_value()?;
                let places = self.0.iter().zip(&mut found);
                if let Some((_, place)) = places.into_iter().find(|(wanted, _)| **wanted == name) {
                    place.get_or_insert(value.get());
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Visitor(names)).unwrap_or([None; N])
}

/// Removes white space between tokens, so that a JSON text fits on one line. Strings and digits stay byte for byte.
///
/// Works on any cut of a text: carry one `Compact` over its pieces.
#[derive(Debug, Default)]
pub struct Compact {
    in_string: bool,
    escaped: bool,
}

impl Compact {
    /// Appends the next piece to `out` without its insignificant white space.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.reserve(piece.len());
        self.runs(piece, |run| out.extend_from_slice(run));
    }

    /// Gives what is left of the next piece, in runs that are as long as can be: a text without insignificant white space is
    /// one run.
    pub fn runs(&mut self, piece: &[u8], mut take: impl FnMut(&[u8])) {
        let (mut begin, mut at) = (0, 0);
        while at < piece.len() {
            let rest = piece.get(at..).unwrap_or_default();
            if self.in_string {
                at += self.string(rest);
                continue;
            }
            match rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"')) {
                Some(token) if rest.get(token) == Some(&b'"') => {
                    self.in_string = true;
                    at += token + 1;
                }
                Some(token) => {
                    give(piece, begin, at + token, &mut take);
                    at += token + 1;
                    begin = at;
                }
                None => break,
            }
        }
        give(piece, begin, piece.len(), &mut take);
    }

    /// Goes on inside a string; returns how many bytes of `rest` belong to it.
    fn string(&mut self, rest: &[u8]) -> usize {
        let skipped = usize::from(std::mem::take(&mut self.escaped));
        let Some(found) = memchr::memchr2(b'"', b'\\', rest.get(skipped..).unwrap_or_default()) else {
            return rest.len();
        };
        let at = skipped + found;
        if rest.get(at) == Some(&b'"') {
            self.in_string = false;
        } else {
            self.escaped = true;
        }
        at + 1
    }
}

fn give(piece: &[u8], begin: usize, end: usize, take: &mut impl FnMut(&[u8])) {
    if let Some(run) = piece.get(begin..end).filter(|run| !run.is_empty()) {
        take(run);
    }
}

/// [`Compact`] over one whole text.
#[must_use]
pub fn compact(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compact::default().push(text, &mut out);
    out
}
