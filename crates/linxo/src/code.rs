//! The vendor's own code of an error answer (`docs/linxo-api.md` section 5): the one part of an answer that is logged and kept.
//!
//! In: the body of an error answer, and the secrets of its request. Out: a code, if there is one that can be nothing else.
//! An answer may quote what it refuses (a token, a password, an account number), so only words of a known form pass.

use serde::Deserialize;

/// Codes of OAuth2 (RFC 6749, RFC 6750) and of what is built on it, which are in lower case.
const OAUTH: [&str; 14] = [
    "access_denied",
    "consent_required",
    "insufficient_scope",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_token",
    "login_required",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
];
/// No code is longer.
const LONGEST: usize = 64;

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    error_description: Option<String>,
}

/// The code of an answer.
pub(crate) fn of_answer(body: &[u8], secrets: &[&str]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let is_fit = |text: &String| is_code(text) && !secrets.iter().any(|secret| are_akin(text, secret));
    // "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED" was seen in the description, behind a general "error". Where prose is meant to
    // be, one word alone may be anything, such as a name.
    let described = answer.error_description.filter(|text| text.contains('_') && is_fit(text));
    described.or(answer.error.filter(is_fit))
}

fn is_code(text: &str) -> bool {
    let is_upper = (3..=LONGEST).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    is_upper || OAUTH.contains(&text)
}

/// Whether one may be a piece of the other. A code of the closed list gives nothing away, whatever the secret.
fn are_akin(code: &str, secret: &str) -> bool {
    let secret = secret.to_ascii_uppercase();
    !OAUTH.contains(&code) && !secret.is_empty() && (code.contains(&secret) || secret.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(error: &str, description: &str, secrets: &[&str]) -> Option<String> {
        let body = serde_json::json!({ "error": error, "error_description": description });
        of_answer(body.to_string().as_bytes(), secrets)
    }

    #[test]
    fn codes_pass() {
        assert_eq!(of("invalid_grant", "Bad user credentials", &["invalid_grant"]).unwrap(), "invalid_grant");
        assert_eq!(of("RESOURCE_UNKNOWN", "Unknown connection", &[]).unwrap(), "RESOURCE_UNKNOWN");
        assert_eq!(of("FORBIDDEN", "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED", &["t"]).unwrap(), "FORBIDDEN");
        let terms = of("FORBIDDEN", "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED", &["token"]).unwrap();
        assert_eq!(terms, "ACCEPT_TERMS_AND_CONDITIONS_REQUIRED");
    }

    #[test]
    fn what_may_quote_the_request_does_not() {
        for text in [
            "FR7630006000011234567890189",
            "s3cretTOKENabcdef0123456789",
            "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
            "SECRETTOKEN",
            "TOKEN_SECRETTOKEN_EXPIRED",
            "SECRET",
            "MUSTER_MANN",
            "user_password",
            "AB",
            "_A_B",
            "Access_Denied",
            "A\u{c9}B",
            "",
        ] {
            for answer in
                [of("x", text, &["SecretToken", "muster_mann"]), of(text, "y", &["SecretToken", "muster_mann"])]
            {
                assert_eq!(answer, None, "{text}");
            }
        }
        assert_eq!(of("x", "MUSTERMANN", &[]), None, "one word in the description");
        for body in ["", "[]", "<html>", r#"{"error":7}"#, r#"{"error":null}"#] {
            assert_eq!(of_answer(body.as_bytes(), &[]), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_passes(secret in "[A-Z_]{3,20}", before in "[A-Z_]{0,9}", behind in "[A-Z_]{0,9}") {
            let text = format!("{before}{secret}{behind}");
            prop_assert_eq!(of(&text, &text, &[&secret]), None);
            prop_assert_eq!(of(&secret, &secret, &[&text.to_lowercase()]), None);
        }
    }
}
