//! Ids in the path of a URL.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the characters that mean only themselves anywhere in a URL (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An id as one segment of a URL's path. `None` for an id that cannot be one: `.` and `..` lead to another folder even when
/// they are encoded, and an empty id names the folder itself.
pub(crate) fn encoded(id: &str) -> Option<String> {
    (!matches!(id, "" | "." | "..")).then(|| utf8_percent_encode(id, RESERVED).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment_of_a_url() {
        assert_eq!(encoded("12-a_b.c~").unwrap(), "12-a_b.c~");
        assert_eq!(encoded("../é?x=1#&/").unwrap(), "..%2F%C3%A9%3Fx%3D1%23%26%2F");
        assert_eq!(encoded(".\n.").unwrap(), ".%0A.");
        for elsewhere in ["", ".", ".."] {
            assert_eq!(encoded(elsewhere), None);
        }
    }
}
