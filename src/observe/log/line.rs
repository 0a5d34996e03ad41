//! One log event as one line, JSON or text.
//!
//! Promises: a value takes at most [`LONGEST_VALUE`] bytes of its line, however long it is; whatever is in it, the line
//! stays one line, valid in its format, and shows nothing that is not plainly visible ([`is_plain`]): a terminal or a log
//! viewer cannot be made to show another line than there is.

use super::settings::LogFormat;
use base::{clock::Timestamp, text::is_plain};
use std::{
    error::Error,
    fmt::{self, Display, Write as _},
};
use tracing::{
    Event,
    field::{Field, Visit},
};

/// Bytes of one value; what is longer is cut, and ends in `…`.
pub(super) const LONGEST_VALUE: usize = 1024;

/// The event's line, with its line feed.
pub(super) fn render(event: &Event<'_>, format: LogFormat, at: Timestamp) -> String {
    let (level, target) = (event.metadata().level(), event.metadata().target());
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    let mut line = String::with_capacity(512);
    // Here and below: writing into a String does not fail.
    match format {
        LogFormat::Json => write!(line, "{{\"timestamp\":\"{at:.3}\",\"level\":\"{level}\"").ok(),
        LogFormat::Text => write!(line, "{at:.3} {level:>5} {target}:").ok(),
    };
    event.record(&mut Fields { line: &mut line, format });
    match format {
        LogFormat::Json => writeln!(line, ",\"target\":\"{target}\"}}").ok(),
        LogFormat::Text => writeln!(line).ok(),
    };
    line
}

/// Writes the fields of an event behind what the line holds.
struct Fields<'a> {
    line: &'a mut String,
    format: LogFormat,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        let name = field.name();
        match (self.format, name) {
            (LogFormat::Json, _) => write!(self.line, ",\"{name}\":").ok(),
            (LogFormat::Text, "message") => write!(self.line, " ").ok(),
            (LogFormat::Text, _) => write!(self.line, " {name}=").ok(),
        };
    }

    /// A number, or true or false.
    fn plain(&mut self, field: &Field, value: impl Display) {
        self.name(field);
        write!(self.line, "{value}").ok();
    }

    fn text(&mut self, field: &Field, value: fmt::Arguments<'_>, is_quoted: bool) {
        self.name(field);
        if is_quoted {
            self.line.push('"');
        }
        let mut cut = Cut { line: self.line, format: self.format, is_quoted, room: Some(LONGEST_VALUE) };
        // A value that fails to show itself leaves what it has shown.
        cut.write_fmt(value).ok();
        if is_quoted {
            self.line.push('"');
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"), self.format == LogFormat::Json);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, format_args!("{value}"), self.format == LogFormat::Json);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }
}

/// Takes the beginning of a text into a line, escaped; the rest is thrown away without being kept anywhere.
struct Cut<'a> {
    line: &'a mut String,
    format: LogFormat,
    is_quoted: bool,
    /// Bytes left; `None` once the text was cut.
    room: Option<usize>,
}

impl Cut<'_> {
    fn push(&mut self, c: char) {
        if self.is_quoted && matches!(c, '"' | '\\') {
            self.line.extend(['\\', c]);
        } else if is_plain(c) {
            self.line.push(c);
        } else if self.format == LogFormat::Text || matches!(c, '\n' | '\r' | '\t') {
            self.line.extend(c.escape_default());
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.line, "\\u{unit:04x}").ok();
            }
        }
    }
}

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while let Some(room) = self.room {
            // Nearly all text is of these, which need no look one by one.
            let (ordinary, rest) = text.split_at(text.bytes().take(room).take_while(|byte| is_ordinary(*byte)).count());
            self.line.push_str(ordinary);
            let room = room - ordinary.len();
            let mut others = rest.chars();
            let Some(c) = others.next() else {
                self.room = Some(room);
                break;
            };
            let before = self.line.len();
            self.push(c);
            self.room = room.checked_sub(self.line.len() - before);
            if self.room.is_none() {
                self.line.truncate(before);
                self.line.push('…');
            }
            text = others.as_str();
        }
        Ok(())
    }
}

/// Whether a byte is a character that stands for itself in every format.
fn is_ordinary(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}
