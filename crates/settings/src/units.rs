//! Durations and sizes as people write them: `"1h 30m"`, `"8 MiB"`.
//!
//! Pure: text in, a value or the reason why not out. A number without a unit is refused, since nobody can tell later
//! whether `timeout = 30` meant seconds or milliseconds. What is written out can be read in again.

use std::time::Duration;

/// Units of duration in milliseconds, largest first. A day has 24 hours.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes; each is also understood in other upper and lower case.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// Reads a duration: whole numbers with `ms`, `s`, `m`, `h` or `d`, one or several.
///
/// # Errors
/// Why the text is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err("is empty".to_owned());
    }
    while !rest.is_empty() {
        let (number, unit, behind) = part(rest)?;
        let factor = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let factor = factor.ok_or_else(|| format!("has the unknown unit `{unit}` (known: ms, s, m, h, d)"))?;
        millis = number.checked_mul(factor).and_then(|part| millis.checked_add(part)).ok_or("is too large")?;
        rest = behind;
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a size: one whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (1024) or `KB`, `MB`, `GB`, `TB` (1000).
///
/// # Errors
/// Why the text is none.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let (number, unit, rest) = part(text)?;
    if !rest.is_empty() {
        return Err(format!("has `{}` behind the unit", shown(rest)));
    }
    let factor = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor);
    let factor =
        factor.ok_or_else(|| format!("has the unknown unit `{unit}` (known: B, KiB, MiB, GiB, KB, MB, GB)"))?;
    number.checked_mul(factor).ok_or_else(|| "is too large".to_owned())
}

/// Writes a duration in the largest unit that leaves a whole number; what is below a millisecond is left out.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fitting = DURATIONS.into_iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    let (unit, factor) = fitting.unwrap_or(("s", 1000));
    format!("{}{unit}", millis / factor)
}

/// Writes a size in the largest unit that leaves a whole number.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) =
        SIZES.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / factor)
}

/// Splits `30m 5s` in 30, `m` and `5s`.
fn part(text: &str) -> Result<(u64, &str, &str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if rest.starts_with(['.', ',']) {
        return Err("must be a whole number; use a smaller unit".to_owned());
    }
    if number.is_empty() {
        return Err(format!("needs a number before `{}`", shown(rest)));
    }
    let number = number.parse().map_err(|_overflow| "is too large".to_owned())?;
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    match (unit.is_empty(), rest.is_empty()) {
        (true, true) => Err("has no unit".to_owned()),
        (true, false) => Err(format!("has `{}` where a unit should be", shown(rest))),
        (false, _) => Ok((number, unit, rest.trim_start())),
    }
}

/// The start of a text that may be long.
fn shown(text: &str) -> String {
    text.chars().take(12).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5000),
            ("15m", 900_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            (" 2 s ", 2000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for (text, reason) in [
            ("", "is empty"),
            ("30", "has no unit"),
            ("5 parsecs", "has the unknown unit `parsecs` (known: ms, s, m, h, d)"),
            ("1.5s", "must be a whole number; use a smaller unit"),
            ("s", "needs a number before `s`"),
            ("-5s", "needs a number before `-5s`"),
            ("5;", "has `;` where a unit should be"),
            ("99999999999999999999s", "is too large"),
            ("999999999999999999d", "is too large"),
        ] {
            assert_eq!(duration(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in
            [("100 B", 100), ("512 KiB", 524_288), ("8 MiB", 8_388_608), ("1 GB", 1_000_000_000), ("1gib", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for (text, reason) in [
            ("8", "has no unit"),
            ("8 MX", "has the unknown unit `MX` (known: B, KiB, MiB, GiB, KB, MB, GB)"),
            ("8 MiB 1 KiB", "has `1 KiB` behind the unit"),
            ("99999999 TiB", "is too large"),
        ] {
            assert_eq!(size(text), Err(reason.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(millis in 0..u64::MAX / 2, bytes: u64) {
            let written = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(written)), Ok(written));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            prop_assert!(duration(&text).is_ok() || duration(&text).is_err());
            prop_assert!(size(&text).is_ok() || size(&text).is_err());
        }
    }
}
