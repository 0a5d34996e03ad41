use super::*;
use proptest::prelude::*;

const TWO: &[u8] = include_bytes!("../../../tests/samples/event_documented_two_accounts.json");
const MANY: &[u8] = include_bytes!("../../../tests/samples/event_documented_102_accounts.json");

fn with(change: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(MANY).unwrap();
    assert!(text.contains(change), "{change}");
    text.replacen(change, to, 1).into_bytes()
}

fn field(body: &[u8]) -> (&'static str, String) {
    match Event::parse(body) {
        Err(Malformed::Field { path, problem }) => (path, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_documented_events() {
    let two = Event::parse(TWO).unwrap();
    assert_eq!((two.id.as_str(), two.connection.as_str()), ("abc123456", "123"));
    assert_eq!(two.user.as_ref().map(UserId::as_str), Some("321"));
    assert_eq!((two.mode.as_deref(), two.channel_status.as_deref()), (Some("REDIRECT"), Some("SUCCESS")));
    assert_eq!((two.account_count, two.listed, &two.shape), (Some(2), 2, &Shape::Whole));
    assert_eq!((two.created, two.new_transactions, two.drift), (Some(1_509_955_448), Some(true), None));

    let many = Event::parse(MANY).unwrap();
    assert_eq!(many.shape, Shape::Truncated { expected: 102 });
    assert_eq!(many.id, two.id, "the vendor's two examples share an id");
    assert_eq!(many.cloud_type(), "com.linxo.connections.updated");
}

#[test]
fn every_sample_is_an_event() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/samples")).unwrap() {
        let path = entry.unwrap().path();
        let event = Event::parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(event.drift, None, "{}", path.display());
    }
}

#[test]
fn the_flag_in_the_example_wins_over_the_one_in_the_table() {
    let both = include_bytes!("../../../tests/samples/event_duplicate_flag_conflict.json");
    let event = Event::parse(both).unwrap();
    assert_eq!(event.new_transactions, Some(true));
    assert_eq!((event.event_type.as_str(), event.cloud_type().as_str()), ("UDPATED", "com.linxo.connections.updated"));
    let minimal = Event::parse(include_bytes!("../../../tests/samples/event_minimal.json")).unwrap();
    assert_eq!(minimal.new_transactions, Some(true));
}

#[test]
fn ids_are_strings_or_integers_and_never_empty() {
    assert_eq!(Event::parse(&with(r#""abc123456""#, "77")).unwrap().id.as_str(), "77");
    assert_eq!(Event::parse(&with(r#""id" : "123""#, r#""id" : 123"#)).unwrap().connection.as_str(), "123");
    assert_eq!(field(&with(r#""abc123456""#, r#""""#)), ("$.id", "is empty".to_owned()));
    assert_eq!(field(&with(r#""abc123456""#, "null")).0, "$.id");
    assert_eq!(field(&with(r#""abc123456""#, "1.5")).0, "$.id");
    assert_eq!(
        field(&with(r#""abc123456""#, "[]")),
        ("$.id", "must be a string or an integer, not an array".to_owned())
    );
    assert_eq!(field(&with(r#""id" : "123""#, r#""id" : true"#)).0, "$.resource.id");
    assert_eq!(field(&with(r#""id" : "123","#, "")), ("$.resource.id", "is missing".to_owned()));
    assert_eq!(field(&with(r#""UPDATED""#, "3")), ("$.event_type", "must be a string, not a number".to_owned()));
    assert_eq!(field(&with(r#""CONNECTIONS""#, r#""""#)).0, "$.resource_type");
    assert_eq!(field(br#"{"id":"1","event_type":"UPDATED","resource_type":"CONNECTIONS"}"#).0, "$.resource.id");
    assert_eq!(field(br#"{"id":"1","event_type":"U","resource_type":"C","resource":[]}"#).0, "$.resource");
}

#[test]
fn what_is_not_json_is_located() {
    let at = |body: &[u8]| match Event::parse(body) {
        Err(Malformed::Syntax { line, column, .. }) => (line, column),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(b""), (1, 1));
    assert_eq!(at(b"{\n \"id\": nope}"), (2, 9));
    assert_eq!(at(b"{} {}"), (1, 4));
    assert_eq!(at(b"{\"id\": \"\xff\"}"), (1, 9));
    assert_eq!(Event::parse(b"[]"), Err(Malformed::NotAnObject { found: "an array" }));
    assert_eq!(Event::parse(b"null"), Err(Malformed::NotAnObject { found: "null" }));
    let nested = |depth: usize| with("102", &format!("102, \"later\": {}1{}", "[".repeat(depth), "]".repeat(depth)));
    assert_eq!(Event::parse(&nested(126)).unwrap().drift, None);
    assert!(matches!(Event::parse(&nested(127)), Err(Malformed::Syntax { problem: "nesting deeper than 128", .. })));
}

#[test]
fn a_known_member_given_twice_is_refused() {
    assert_eq!(field(&with(r#""event_type""#, r#""id":"2","event_type""#)).0, "$");
    assert_eq!(field(&with(r#""user_id""#, r#""id":"9","user_id""#)).0, "$.resource");
}

#[test]
fn only_a_count_without_accounts_is_truncated() {
    let shape = |change: &str, to: &str| Event::parse(&with(change, to)).unwrap().shape;
    assert_eq!(shape(r#""account_count" : 102"#, r#""account_count" : 0"#), Shape::Whole);
    assert_eq!(shape(r#""account_count" : 102,"#, ""), Shape::Whole);
    assert_eq!(shape(r#""account_count" : 102"#, r#""account_count" : 1"#), Shape::Truncated { expected: 1 });
    assert_eq!(shape("[\n]", "null"), Shape::Truncated { expected: 102 });
    assert_eq!(shape("[\n]", r#"[{"id":"1"}]"#), Shape::Whole);
}

#[test]
fn what_cannot_be_typed_is_drift_and_kept() {
    let drifted = Event::parse(&with(r#""EMBEDDED""#, "7")).unwrap();
    assert_eq!(drifted.drift, Some(Drift::Field { path: "$.resource.channels[0].mode".to_owned() }));
    assert_eq!(drifted.shape, Shape::Truncated { expected: 102 });
    assert_eq!(
        (drifted.user.as_ref().map(UserId::as_str), drifted.channel_status.as_deref()),
        (Some("321"), Some("SUCCESS"))
    );
    let counted_in_words = Event::parse(&with(": 102", r#": "many""#)).unwrap();
    assert_eq!(counted_in_words.shape, Shape::Unclear);
    assert_eq!(counted_in_words.drift, Some(Drift::Field { path: "$.resource.account_count".to_owned() }));
    let whole = std::str::from_utf8(TWO).unwrap().replacen("1234.56", "{}", 1).replacen("10000", "true", 1);
    let whole = Event::parse(whole.as_bytes()).unwrap();
    assert_eq!((whole.shape, whole.listed), (Shape::Whole, 2));
    assert!(matches!(whole.drift, Some(Drift::Field { path }) if path == "$.resource.accounts[1].balance"));
}

/// (A1) Whatever a truncated event looks like beside its connection and its count, it is completed; the rest is read member
/// by member.
#[test]
fn no_drift_beside_the_count_is_in_the_way_of_a_completion() {
    for (change, to, path) in [
        ("1509955448", r#""2026-01-05T09:12:44+01:00""#, "$.creation_date"),
        (r#""user_id""#, r#""owner":[],"user_id""#, "$.resource.owner"),
        (r#""user_id""#, r#""consent_per_account":"yes","user_id""#, "$.resource.consent_per_account"),
        (": 102", r#": "102""#, "$.resource.account_count"),
        (": 102", ": 102.0", "$.resource.account_count"),
        ("[\n]", "{}", "$.resource.accounts"),
        ("[\n]", "[null]", "$.resource.accounts[0]"),
        (r#""EMBEDDED""#, "null,\"expires\":\"never\"", "$.resource.channels[0].expires"),
    ] {
        let event = Event::parse(&with(change, to)).unwrap();
        assert_eq!(event.drift, Some(Drift::Field { path: path.to_owned() }), "{to}");
        assert_eq!((event.shape, event.account_count), (Shape::Truncated { expected: 102 }, Some(102)), "{to}");
        assert_eq!((event.user.unwrap().as_str(), event.channel_status.as_deref()), ("321", Some("SUCCESS")), "{to}");
        assert_eq!((event.new_transactions, event.status.as_deref()), (Some(true), Some("SUCCESS")), "{to}");
    }
    let text = std::str::from_utf8(MANY).unwrap();
    let (start, end) = (text.find("\"channels\"").unwrap(), text.find("\"account_count\"").unwrap());
    let channels = format!("{}\"channels\":[null],{}", &text[..start], &text[end..]);
    let event = Event::parse(channels.as_bytes()).unwrap();
    assert_eq!((event.shape, event.mode), (Shape::Truncated { expected: 102 }, None));
    assert_eq!(event.drift, Some(Drift::Field { path: "$.resource.channels[0]".to_owned() }));
}

/// (A8) Digits beyond 64 bits are an id like any other.
#[test]
fn an_integer_of_any_length_is_an_id_by_its_digits() {
    let digits = "123456789012345678901234567890";
    let event = Event::parse(&with(r#""abc123456""#, digits)).unwrap();
    assert_eq!((event.id.as_str(), event.drift), (digits, None));
    let event = Event::parse(&with(r#""id" : "123""#, &format!(r#""id" : -{digits}"#))).unwrap();
    assert_eq!(event.connection.as_str(), format!("-{digits}"));
    assert_eq!(Event::parse(&with(r#""321""#, digits)).unwrap().user.unwrap().as_str(), digits);
}

/// (A9) An account that is listed twice is one account.
#[test]
fn a_repeated_account_is_counted_once_and_is_drift() {
    let accounts = r#"[{"id":"7"},{"id":"8"},{"id":7}]"#;
    let event = Event::parse(&with("[\n]", accounts)).unwrap();
    assert_eq!((event.listed, event.drift), (2, Some(Drift::Repeated { path: "$.resource.accounts".into() })));
    let drifted = Event::parse(&with("[\n]", &accounts.replace("\"8\"", "null"))).unwrap();
    assert_eq!(drifted.listed, 2, "the one without an id is an account too");
}

/// (B1) A byte order mark is skipped.
#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let marked = [b"\xef\xbb\xbf", TWO].concat();
    assert_eq!(Event::parse(&marked), Event::parse(TWO));
    assert_eq!(without_mark(&marked), TWO);
    assert!(matches!(Event::parse(b"\xef\xbb\xbf\xef\xbb\xbf{}"), Err(Malformed::Syntax { line: 1, .. })));
}

/// (B4) Ids become keys and header values, so their length has a limit.
#[test]
fn long_ids_are_refused_and_other_long_texts_are_left_in_the_body() {
    let long = "x".repeat(257);
    let quoted = format!("\"{long}\"");
    let problem = || "is longer than 256 bytes".to_owned();
    assert_eq!(field(&with(r#""abc123456""#, &quoted)), ("$.id", problem()));
    assert_eq!(field(&with(r#""id" : "123""#, &format!("\"id\" : {}", "1".repeat(257)))), ("$.resource.id", problem()));
    assert_eq!(field(&with(r#""UPDATED""#, &quoted)), ("$.event_type", problem()));
    assert_eq!(field(&with(r#""CONNECTIONS""#, &quoted)), ("$.resource_type", problem()));
    let drifted = String::from_utf8(with(r#""abc123456""#, &quoted)).unwrap().replacen(": 102", ": \"102\"", 1);
    assert_eq!(field(drifted.as_bytes()), ("$.id", problem()), "also where something else is odd");
    assert_eq!(
        Event::parse(&with(r#""abc123456""#, &quoted[1..].replacen('x', "\"", 1))).unwrap().id.as_str().len(),
        256
    );

    for drifts in [false, true] {
        let mut body = String::from_utf8(with(r#""321""#, &quoted)).unwrap();
        if drifts {
            body = body.replacen(": 102", ": \"102\"", 1);
        }
        let event = Event::parse(body.as_bytes()).unwrap();
        assert_eq!((event.user, event.shape), (None, Shape::Unclear));
        assert_eq!(event.drift, Some(Drift::TooLong { path: "$.resource.user_id".into() }));
    }
    let event = Event::parse(&with(r#""REDIRECT""#, &quoted)).unwrap();
    assert_eq!((event.mode, event.shape), (None, Shape::Truncated { expected: 102 }));
    assert_eq!(event.drift, Some(Drift::TooLong { path: "$.resource.channels.mode".into() }));
}

#[test]
fn unknown_types_are_drift_and_never_silently_incomplete() {
    let created = Event::parse(&with("UPDATED", "CREATED")).unwrap();
    assert_eq!((created.drift, created.shape), (Some(Drift::UnknownType), Shape::Truncated { expected: 102 }));
    let users = Event::parse(&with("CONNECTIONS", "USERS")).unwrap();
    assert_eq!((&users.drift, &users.shape), (&Some(Drift::UnknownType), &Shape::Truncated { expected: 102 }));
    assert_eq!(users.cloud_type(), "com.linxo.users.updated");
}

#[test]
fn splicing_touches_nothing_else() {
    let fill = |body: &[u8]| {
        let splice = splice(body).unwrap();
        String::from_utf8([splice.before, splice.member, b"[1,2]", splice.after].concat()).unwrap()
    };
    assert_eq!(
        fill(br#"{"resource":{"a":1, "accounts" : [ ] ,"z":2} , "x":3}"#),
        r#"{"resource":{"a":1, "accounts" : [1,2] ,"z":2} , "x":3}"#
    );
    assert_eq!(
        fill(br#"{"resource":{"account_count":2,"accounts":null}}"#),
        r#"{"resource":{"account_count":2,"accounts":[1,2]}}"#
    );
    assert_eq!(fill(br#"{"resource":{"account_count":2 }}"#), r#"{"resource":{"account_count":2,"accounts":[1,2] }}"#);
    assert!(splice(br#"{"resource":{}}"#).is_err());
}

#[test]
fn a_connection_of_the_api_says_what_it_can_be_read_of() {
    let known = |json: &str| {
        let wire::Known { user, status, provider } = wire::known_of(json.as_bytes());
        [user, status, provider].map(Option::unwrap_or_default)
    };
    assert_eq!(
        known(r#"{"id":"7","user_id":321,"status":"FAILED","provider_id":"246","more":[]}"#),
        ["321", "FAILED", "246"]
    );
    assert_eq!(known(r#"{"id":"7","user_id":null,"status":["FAILED"],"provider_id":12}"#), ["", "", "12"]);
    assert_eq!(known("[]"), ["", "", ""]);
}

#[test]
fn compacting_keeps_strings_and_digits() {
    let text = b"{ \"a b\" : [ 1.50 ,\t-4 ],\r\n \"c\\\" d\" : \" \\\\\" }";
    assert_eq!(compact(text), b"{\"a b\":[1.50,-4],\"c\\\" d\":\" \\\\\"}");
    for cut in 0..text.len() {
        let (mut compact_pieces, mut out) = (Compact::default(), Vec::new());
        compact_pieces.push(&text[..cut], &mut out);
        compact_pieces.push(&text[cut..], &mut out);
        assert_eq!(out, compact(text));
    }
}

/// Any JSON value as text, with odd digits and odd white space.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            prop::collection::vec(("[a-z_]{1,8}", inner), 0..6).prop_map(|members| {
                let members: Vec<String> = members
                    .into_iter()
                    .enumerate()
                    .map(|(index, (name, value))| format!("\"{name}{index}\":\t{value}"))
                    .collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..512)) {
        drop(Event::parse(&body));
        drop(splice(&body));
        drop(compact(&body));
    }

    #[test]
    fn damaged_events_never_panic(at in 0..MANY.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = MANY.to_vec();
        if cut { body.truncate(at) } else { body[at] = byte }
        drop(Event::parse(&body));
    }

    #[test]
    fn any_event_survives_with_every_digit_and_member(top in json(), inner in json(), accounts in json()) {
        let body = format!(
            "{{\"extra\": {top}, \"id\": \"e\", \"event_type\": \"UPDATED\", \"resource_type\":\"CONNECTIONS\",\n \"resource\" : {{ \"later\": {inner}, \"id\": \"7\", \"account_count\": 3, \"accounts\": [] , \"z\": {inner} }} }}"
        );
        let event = Event::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(event.shape, Shape::Truncated { expected: 3 });
        let splice = splice(body.as_bytes()).unwrap();
        let filled = [splice.before, b"[", accounts.as_bytes(), b"]", splice.after].concat();
        let expected = body.replacen("\"accounts\": []", &format!("\"accounts\": [{accounts}]"), 1);
        prop_assert_eq!(String::from_utf8(filled.clone()).unwrap(), expected.clone());
        let before: serde_json::Value = serde_json::from_str(&expected).unwrap_or_default();
        let after: serde_json::Value = serde_json::from_slice(&compact(&filled)).unwrap_or_default();
        prop_assert_eq!(before, after);
    }
}
