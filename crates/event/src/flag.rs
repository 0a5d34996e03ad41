//! Sets the flag of new transactions in an event without touching any other byte.

use crate::scan;

/// The flag by itself.
const FLAG: &str = "\"new_transactions\":true";

/// The event with its flag of new transactions set: where the vendor's example has it, else where its table has it, else in a
/// `connection_updated` that is added. `None`: the body is no JSON object.
#[must_use]
pub fn with_new_transactions(body: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    if scan::kind(text) != "an object" {
        return None;
    }
    let [updated, flag] = scan::members(text, ["connection_updated", "new_transactions"]);
    let within = updated.and_then(|updated| scan::members(updated, ["new_transactions"])[0]);
    let set = |value: &str, to: &str| {
        let start = scan::offset_in(body, value);
        Some([text.get(..start)?, to, text.get(start + value.len()..)?].concat().into_bytes())
    };
    match (within, flag, updated) {
        (Some(value), ..) | (None, Some(value), _) => set(value, "true"),
        (None, None, Some(updated)) if scan::kind(updated) == "an object" => set(updated, &with_flag(updated, FLAG)?),
        (None, None, Some(updated)) => set(updated, &format!("{{{FLAG}}}")),
        (None, None, None) => Some(with_flag(text, &format!("\"connection_updated\":{{{FLAG}}}"))?.into_bytes()),
    }
}

/// An object with one more member at its end.
fn with_flag(object: &str, member: &str) -> Option<String> {
    let (before, after) = object.rsplit_once('}')?;
    let is_empty = before.trim_end_matches([' ', '\t', '\r', '\n']).ends_with('{');
    let comma = if is_empty { "" } else { "," };
    Some(format!("{before}{comma}{member}}}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    #[test]
    fn the_flag_is_set_where_it_stands_and_no_other_byte_changes() {
        for (body, wanted) in [
            (
                r#"{"n": 1.50, "connection_updated" : { "new_transactions" : false , "x":1e2 }}"#,
                r#"{"n": 1.50, "connection_updated" : { "new_transactions" : true , "x":1e2 }}"#,
            ),
            (
                r#"{"new_transactions":false,"connection_updated":{}}"#,
                r#"{"new_transactions":true,"connection_updated":{}}"#,
            ),
            (r#"{"new_transactions":"no"}"#, r#"{"new_transactions":true}"#),
            (r#"{"connection_updated":{}}"#, r#"{"connection_updated":{"new_transactions":true}}"#),
            (
                r#"{"connection_updated":{"x":{}}, "y":0}"#,
                r#"{"connection_updated":{"x":{},"new_transactions":true}, "y":0}"#,
            ),
            (r#"{"connection_updated":null}"#, r#"{"connection_updated":{"new_transactions":true}}"#),
            ("{\"a\":\"}\"}\n", "{\"a\":\"}\",\"connection_updated\":{\"new_transactions\":true}}\n"),
            (
                r#"{"resource":{"new_transactions":false}}"#,
                r#"{"resource":{"new_transactions":false},"connection_updated":{"new_transactions":true}}"#,
            ),
            (
                r#"{"connection_updated":{"new_transactions":true}}"#,
                r#"{"connection_updated":{"new_transactions":true}}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(with_new_transactions(body.as_bytes()).unwrap()).unwrap(), wanted, "{body}");
        }
        assert_eq!([with_new_transactions(b"[]"), with_new_transactions(b"\xff")], [None, None]);
    }

    #[test]
    fn an_event_says_so_afterwards() {
        for rest in [
            "",
            r#","new_transactions":false"#,
            r#","connection_updated":{"new_transactions":false}"#,
            r#","connection_updated":{"new_transactions":null}"#,
        ] {
            let body = format!(
                r#"{{"id":"e","event_type":"UPDATED","resource_type":"CONNECTIONS","resource":{{"id":"7"}}{rest}}}"#
            );
            let set = with_new_transactions(body.as_bytes()).unwrap();
            assert_eq!(Event::parse(&set).unwrap().new_transactions, Some(true), "{body}");
        }
    }
}
