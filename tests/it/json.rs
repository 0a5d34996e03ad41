//! What JSON is and what is not, after the classes of the `JSONTestSuite`: `y_` must be taken, `n_` must be refused, `i_` may
//! be either. Each text stands where an unknown member of a valid event has its value, and as a whole body.

use event::{Event, Malformed};

pub(crate) fn event_with(value: &[u8]) -> Vec<u8> {
    [
        &br#"{"id":"e1","event_type":"UPDATED","resource_type":"CONNECTIONS","unknown":"#[..],
        value,
        br#","resource":{"id":"7"}}"#,
    ]
    .concat()
}

/// Must be taken.
pub(crate) const YES: &[(&str, &[u8])] = &[
    ("array_arraysWithSpaces", b"[[]   ]"),
    ("array_empty-string", b"[\"\"]"),
    ("array_empty", b"[]"),
    ("array_ending_with_newline", b"[\"a\"]\n"),
    ("array_false", b"[false]"),
    ("array_heterogeneous", b"[null, 1, \"1\", {}]"),
    ("array_with_leading_space", b" [1]"),
    ("array_with_several_null", b"[1,null,null,null,2]"),
    ("array_with_trailing_space", b"[2] "),
    ("number", b"[123e65]"),
    ("number_0e+1", b"[0e+1]"),
    ("number_0e1", b"[0e1]"),
    ("number_after_space", b"[ 4]"),
    (
        "number_double_close_to_zero",
        b"[-0.000000000000000000000000000000000000000000000000000000000000000000000000000001]",
    ),
    ("number_int_with_exp", b"[20e1]"),
    ("number_minus_zero", b"[-0]"),
    ("number_negative_int", b"[-123]"),
    ("number_real_capital_e", b"[1E22]"),
    ("number_real_capital_e_neg_exp", b"[1E-2]"),
    ("number_real_fraction_exponent", b"[123.456e78]"),
    ("number_simple_real", b"[123.456789]"),
    ("object", b"{\"asd\":\"sdf\", \"dfg\":\"fgh\"}"),
    ("object_duplicated_key", b"{\"a\":\"b\",\"a\":\"c\"}"),
    ("object_duplicated_key_and_value", b"{\"a\":\"b\",\"a\":\"b\"}"),
    ("object_empty_key", b"{\"\":0}"),
    ("object_escaped_null_in_key", b"{\"foo\\u0000bar\": 42}"),
    ("object_extreme_numbers", b"{ \"min\": -1.0e+28, \"max\": 1.0e+28 }"),
    ("object_with_newlines", b"{\n\"a\": \"b\"\n}"),
    ("string_1_2_3_bytes_UTF-8", b"[\"\\u0060\\u012a\\u12AB\"]"),
    ("string_accepted_surrogate_pair", b"[\"\\uD801\\udc37\"]"),
    ("string_allowed_escapes", b"[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"),
    ("string_backslash_and_u_escaped_zero", b"[\"\\\\u0000\"]"),
    ("string_comments", b"[\"a/*b*/c/*d//e\"]"),
    ("string_escaped_noncharacter", b"[\"\\uFFFF\"]"),
    ("string_last_surrogates_1_and_2", b"[\"\\uDBFF\\uDFFF\"]"),
    ("string_nonCharacterInUTF-8_U+10FFFF", b"[\"\xf4\x8f\xbf\xbf\"]"),
    ("string_null_escape", b"[\"\\u0000\"]"),
    ("string_u+2028_line_sep", b"[\"\xe2\x80\xa8\"]"),
    ("string_unescaped_char_delete", b"[\"\x7f\"]"),
    ("string_utf8", "[\"€𝄞\"]".as_bytes()),
    ("structure_lonely_false", b"false"),
    ("structure_lonely_negative_real", b"-0.1"),
    ("structure_lonely_null", b"null"),
    ("structure_lonely_string", b"\"asd\""),
    ("structure_whitespace_array", b" [] "),
];

/// Must be refused.
pub(crate) const NO: &[(&str, &[u8])] = &[
    ("array_1_true_without_comma", b"[1 true]"),
    ("array_a_invalid_utf8", b"[a\xe5]"),
    ("array_colon_instead_of_comma", b"[\"\": 1]"),
    ("array_comma_and_number", b"[,1]"),
    ("array_double_comma", b"[1,,2]"),
    ("array_extra_close", b"[\"x\"]]"),
    ("array_extra_comma", b"[\"\",]"),
    ("array_incomplete", b"[\"x\""),
    ("array_inner_array_no_comma", b"[3[4]]"),
    ("array_invalid_utf8", b"[\xff]"),
    ("array_just_minus", b"[-]"),
    ("array_missing_value", b"[   , \"\"]"),
    ("array_newlines_unclosed", b"[\"a\",\n4\n,1,"),
    ("array_spaces_vertical_tab_formfeed", b"[\"\x0ba\"\\f]"),
    ("array_star_inside", b"[*]"),
    ("array_unclosed_with_object_inside", b"[{}"),
    ("incomplete_false", b"[fals]"),
    ("incomplete_null", b"[nul]"),
    ("incomplete_true", b"[tru]"),
    ("multidigit_number_then_00", b"123\x00"),
    ("number_++", b"[++1234]"),
    ("number_+1", b"[+1]"),
    ("number_+Inf", b"[+Inf]"),
    ("number_-01", b"[-01]"),
    ("number_-1.0.", b"[-1.0.]"),
    ("number_-2.", b"[-2.]"),
    ("number_-NaN", b"[-NaN]"),
    ("number_.-1", b"[.-1]"),
    ("number_.2e-3", b"[.2e-3]"),
    ("number_0.1.2", b"[0.1.2]"),
    ("number_0.3e", b"[0.3e]"),
    ("number_0.3e+", b"[0.3e+]"),
    ("number_0.e1", b"[0.e1]"),
    ("number_0_capital_E+", b"[0E+]"),
    ("number_1.0e-", b"[1.0e-]"),
    ("number_1_000", b"[1 000.0]"),
    ("number_1eE2", b"[1eE2]"),
    ("number_2.e+3", b"[2.e+3]"),
    ("number_9.e+", b"[9.e+]"),
    ("number_Inf", b"[Inf]"),
    ("number_NaN", b"[NaN]"),
    ("number_U+FF11_fullwidth_digit_one", b"[\xef\xbc\x91]"),
    ("number_expression", b"[1+2]"),
    ("number_hex_2_digits", b"[0x42]"),
    ("number_infinity", b"[Infinity]"),
    ("number_invalid-utf-8-in-exponent", b"[1e1\xe5]"),
    ("number_neg_int_starting_with_zero", b"[-012]"),
    ("number_neg_real_without_int_part", b"[-.123]"),
    ("number_real_garbage_after_e", b"[1ea]"),
    ("number_starting_with_dot", b"[.123]"),
    ("number_with_leading_zero", b"[012]"),
    ("object_bad_value", b"[\"x\", truth]"),
    ("object_bracket_key", b"{[: \"x\"}"),
    ("object_comma_instead_of_colon", b"{\"x\", null}"),
    ("object_double_colon", b"{\"x\"::\"b\"}"),
    ("object_garbage_at_end", b"{\"a\":\"a\" 123}"),
    ("object_key_with_single_quotes", b"{key: 'value'}"),
    ("object_lone_continuation_byte_in_key_and_trailing_comma", b"{\"\xb9\":\"0\",}"),
    ("object_missing_colon", b"{\"a\" b}"),
    ("object_missing_key", b"{:\"b\"}"),
    ("object_missing_value", b"{\"a\":"),
    ("object_no-colon", b"{\"a\""),
    ("object_non_string_key", b"{1:1}"),
    ("object_repeated_null_null", b"{null:null,null:null}"),
    ("object_single_quote", b"{'a':0}"),
    ("object_trailing_comma", b"{\"id\":0,}"),
    ("object_trailing_comment", b"{\"a\":\"b\"}/**/"),
    ("object_two_commas_in_a_row", b"{\"a\":\"b\",,\"c\":\"d\"}"),
    ("object_unquoted_key", b"{a: \"b\"}"),
    ("object_unterminated-value", b"{\"a\":\"a"),
    ("single_space", b" "),
    ("string_1_surrogate_then_escape", b"[\"\\uD800\\\"]"),
    ("string_1_surrogate_then_escape_u1x", b"[\"\\uD800\\u1x\"]"),
    ("string_accentuated_char_no_quotes", "[é]".as_bytes()),
    ("string_backslash_00", b"[\"\\\x00\"]"),
    ("string_escape_x", b"[\"\\x00\"]"),
    ("string_escaped_emoji", "[\"\\🌀\"]".as_bytes()),
    ("string_incomplete_escape", b"[\"\\\"]"),
    ("string_incomplete_escaped_character", b"[\"\\u00A\"]"),
    ("string_invalid_backslash_esc", b"[\"\\a\"]"),
    ("string_invalid_unicode_escape", b"[\"\\uqqqq\"]"),
    ("string_invalid_utf8_after_escape", b"[\"\\\xe5\"]"),
    ("string_no_quotes_with_bad_escape", b"[\\n]"),
    ("string_single_quote", b"['single quote']"),
    ("string_start_escape_unclosed", b"[\"\\"),
    ("string_unescaped_ctrl_char", b"[\"a\x00a\"]"),
    ("string_unescaped_newline", b"[\"new\nline\"]"),
    ("string_unescaped_tab", b"[\"\t\"]"),
    ("structure_U+2060_word_joined", b"[\xe2\x81\xa0]"),
    ("structure_UTF8_BOM_no_data", b"\xef\xbb\xbf"),
    ("structure_angle_bracket_null", b"[<null>]"),
    ("structure_ascii-unicode-identifier", b"a\xc3\xa5"),
    ("structure_capitalized_True", b"[True]"),
    ("structure_close_unopened_array", b"1]"),
    ("structure_comma_instead_of_closing_brace", b"{\"x\": true,"),
    ("structure_double_array", b"[][]"),
    ("structure_end_array", b"]"),
    ("structure_incomplete_UTF8_BOM", b"\xef\xbb{}"),
    ("structure_lone-invalid-utf-8", b"\xe5"),
    ("structure_no_data", b""),
    ("structure_null-byte-outside-string", b"[\x00]"),
    ("structure_number_with_trailing_garbage", b"2@"),
    ("structure_object_with_comment", b"{\"a\":/*comment*/\"b\"}"),
    ("structure_single_star", b"*"),
    ("structure_unclosed_array", b"[1"),
    ("structure_unicode-identifier", "å".as_bytes()),
    ("structure_whitespace_U+2060_word_joiner", b"\xe2\x81\xa0"),
    ("structure_whitespace_formfeed", b"[\x0c]"),
];

/// May be either, and must do no harm.
pub(crate) const EITHER: &[(&str, &[u8])] = &[
    ("number_double_huge_neg_exp", b"[123.456e-789]"),
    (
        "number_huge_exp",
        b"[0.4e00669999999999999999999999999999999999999999999999999999999999999999999999969999999006]",
    ),
    ("number_real_pos_overflow", b"[123123e100000]"),
    ("number_too_big_neg_int", b"[-123123123123123123123123123123]"),
    ("number_very_big_negative_int", b"[-237462374673276894279832749832423479823246327846]"),
    ("object_key_lone_2nd_surrogate", b"{\"\\uDFAA\":0}"),
    ("string_1st_surrogate_but_2nd_missing", b"[\"\\uDADA\"]"),
    ("string_incomplete_surrogates_escape_valid", b"[\"\\uD800\\uD800\\n\"]"),
    ("string_inverted_surrogates_U+1D11E", b"[\"\\uDd1e\\uD834\"]"),
    ("string_UTF-16LE_with_BOM", b"\xff\xfe[\x00\"\x00\xe9\x00\"\x00]\x00"),
    ("string_UTF-8_invalid_sequence", b"[\"\xe6\x97\xa5\xd1\x88\xfa\"]"),
    ("string_iso_latin_1", b"[\"\xe9\"]"),
    ("string_lone_utf8_continuation_byte", b"[\"\x81\"]"),
    ("string_not_in_unicode_range", b"[\"\xf4\xbf\xbf\xbf\"]"),
    ("string_overlong_sequence_2_bytes", b"[\"\xc0\xaf\"]"),
    ("string_utf16BE_no_BOM", b"\x00[\x00\"\x00\xe9\x00\"\x00]"),
    ("structure_UTF-8_BOM_empty_object", b"\xef\xbb\xbf{}"),
];

#[test]
fn what_is_json_is_taken_whatever_it_is() {
    for (name, value) in YES {
        let body = event_with(value);
        let event = Event::parse(&body).unwrap_or_else(|refusal| panic!("y_{name}: {refusal}"));
        assert_eq!(event.id.as_str(), "e1", "y_{name}");
        // As a whole body it is JSON, and no event.
        let alone = Event::parse(value).unwrap_err();
        assert!(!matches!(alone, Malformed::Syntax { .. }), "y_{name}: {alone}");
    }
}

#[test]
fn what_is_not_json_is_refused_as_such() {
    for (name, value) in NO {
        let alone = Event::parse(value).unwrap_err();
        assert!(matches!(alone, Malformed::Syntax { .. }), "n_{name}: {alone}");
        // A comment or a bracket too many would be the same inside.
        let inside = Event::parse(&event_with(value));
        assert!(matches!(inside, Err(Malformed::Syntax { .. })), "n_{name}");
    }
}

#[test]
fn what_may_be_either_does_no_harm() {
    for (name, value) in EITHER {
        for body in [value.to_vec(), event_with(value)] {
            if let Err(refusal) = Event::parse(&body) {
                assert!(!refusal.to_string().is_empty(), "i_{name}");
            }
        }
    }
}

#[test]
fn size_and_depth_are_no_weapons() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(Event::parse(&event_with(&nested(100))).is_ok());
    for depth in [128, 1000, 100_000, 1_000_000] {
        assert!(matches!(Event::parse(&event_with(&nested(depth))), Err(Malformed::Syntax { .. })), "{depth}");
        assert!(Event::parse(&event_with(&b"[".repeat(depth))).is_err());
        assert!(Event::parse(&event_with(&b"{\"a\":".repeat(depth))).is_err());
    }
    let keys: Vec<String> = (0..20_000).map(|n| format!("\"k{n}\":{n}")).collect();
    assert!(Event::parse(&event_with(format!("{{{}}}", keys.join(",")).as_bytes())).is_ok());
    let long = "9".repeat(100_000);
    assert!(Event::parse(&event_with(format!("[{long}.{long}e5]").as_bytes())).is_ok());
    let escapes = format!("\"{}\"", "\\ud834\\udd1e".repeat(50_000));
    assert!(Event::parse(&event_with(escapes.as_bytes())).is_ok());
}

#[test]
fn a_member_that_matters_is_not_given_twice() {
    for twice in [
        r#"{"id":"a","id":"b","event_type":"U","resource_type":"C","resource":{"id":"7"}}"#,
        r#"{"id":"a","event_type":"U","event_type":"V","resource_type":"C","resource":{"id":"7"}}"#,
        r#"{"id":"a","event_type":"U","resource_type":"C","resource":{"id":"7"},"resource":{"id":"8"}}"#,
        r#"{"id":"a","event_type":"U","resource_type":"C","resource":{"id":"7","id":"8"}}"#,
        // The same name, written differently.
        r#"{"id":"a","\u0069d":"b","event_type":"U","resource_type":"C","resource":{"id":"7"}}"#,
    ] {
        assert!(Event::parse(twice.as_bytes()).is_err(), "{twice}");
    }
}
