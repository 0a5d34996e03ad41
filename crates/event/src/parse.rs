//! From the bytes of a body to an event.

use crate::{event::Event, lenient, malformed::Malformed, scan, typed, wire};

/// Deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: usize = 128;

/// Whether a list of accounts, or a connection, is nested so deep that an event which takes it in would be too deep.
#[must_use]
pub fn is_deeper_in_an_event(text: &[u8]) -> bool {
    // An event's accounts stand in two objects.
    scan::too_deep(text, MAX_DEPTH - 2).is_some()
}

/// A body without its byte order mark (RFC 8259 section 8.1 lets a reader skip one). The mark is no part of the JSON text.
#[must_use]
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

impl Event {
    /// Reads an event from the bytes of a body; a byte order mark is skipped.
    ///
    /// # Errors
    /// [`Malformed`] when the body is not JSON or lacks what makes an event; answer 400 or 422 accordingly.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let body = without_mark(body);
        let text = std::str::from_utf8(body).map_err(|error| {
            let (line, column) = scan::position(body, error.valid_up_to());
            Malformed::Syntax { problem: "invalid UTF-8", line, column }
        })?;
        if let Some(offset) = scan::too_deep(body, MAX_DEPTH) {
            let (line, column) = scan::position(body, offset);
            return Err(Malformed::Syntax { problem: "nesting deeper than 128", line, column });
        }
        match serde_json::from_str::<wire::Event<'_>>(text) {
            Ok(event) => typed::read(&event),
            Err(error) => lenient::read(text, &error),
        }
    }
}
