//! JSON that PostgreSQL stores, but cannot look into: it has no character for `\u0000` or for half of a surrogate pair, and
//! fails wherever in the text one stands (PostgreSQL manual, 8.14 JSON Types).

use std::ops::Range;

/// Stands for a character that there is none of.
const REPLACEMENT: &str = r"\ufffd";
/// Bytes of an escape such as `\u0000`.
const ESCAPE: usize = 6;

/// The same JSON with U+FFFD for each escape that PostgreSQL has no character for; `None`: it has none of those.
pub(super) fn readable(json: &str) -> Option<String> {
    let mut unreadable = unreadable(json).peekable();
    unreadable.peek()?;
    let (mut text, mut from) = (String::with_capacity(json.len()), 0);
    for Range { start, end } in unreadable {
        text.push_str(json.get(from..start)?);
        text.push_str(REPLACEMENT);
        from = end;
    }
    text.push_str(json.get(from..)?);
    Some(text)
}

/// Where they stand.
fn unreadable(json: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            // Outside of strings JSON has no backslash.
            let start = at + json.get(at..)?.find('\\')?;
            let Some(unit) = unit(json, start) else {
                // An escape of one character, which may be a backslash itself.
                at = start + 2;
                continue;
            };
            at = start + ESCAPE;
            match unit {
                0xd800..=0xdbff if unit_is_low(json, at) => at += ESCAPE,
                0 | 0xd800..=0xdfff => return Some(start..at),
                _ => {}
            }
        }
    })
}

fn unit_is_low(json: &str, at: usize) -> bool {
    unit(json, at).is_some_and(|unit| (0xdc00..=0xdfff).contains(&unit))
}

/// The UTF-16 unit that an escape at this place stands for, if one begins there.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix(r"\u")?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_has_a_character_for_stays_as_it_is() {
        for json in ["", "{}", r#""a\u00e9\n""#, r#""\\u0000""#, r#""\ud83d\ude00""#, r#""\\\\ud800""#, "\"\u{1f600}\""]
        {
            assert_eq!(readable(json), None, "{json}");
        }
    }

    #[test]
    fn what_it_has_none_for_is_replaced() {
        for (json, expected) in [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\uD800""#, r#""\ufffd""#),
            (r#""\udc00\ud800""#, r#""\ufffd\ufffd""#),
            (r#""\ud800\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#"{"\\\u0000":"\ud800x"}"#, r#"{"\\\ufffd":"\ufffdx"}"#),
        ] {
            assert_eq!(readable(json).as_deref(), Some(expected), "{json}");
        }
    }
}
