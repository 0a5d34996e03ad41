//! Text from outside: which of it may be shown to people as it is.

/// Whether a character is plainly visible: no control character, and none that reorders, hides or breaks what stands
/// around it (Unicode's separators of lines, marks of direction, and characters without width).
#[must_use]
pub const fn is_plain(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Text from outside with everything escaped that is not plainly visible.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (F11) Quotation marks are left alone.
    #[test]
    fn what_is_plain_is_shown_as_it_is() {
        assert_eq!(printable("the inbox's \"disk\" é\n\u{1b}"), "the inbox's \"disk\" é\\u{a}\\u{1b}");
    }

    #[test]
    fn what_misleads_is_not_plain() {
        assert!("aZ09 é€😀\u{a0}\"\\".chars().all(is_plain));
        for c in "\n\u{1b}\u{85}\u{9b}\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\u{e0041}".chars() {
            assert!(!is_plain(c), "{}", c.escape_unicode());
        }
        assert!((0..=u32::from(char::MAX)).filter_map(char::from_u32).all(|c| !(c.is_control() && is_plain(c))));
    }
}
