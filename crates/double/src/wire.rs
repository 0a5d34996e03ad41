//! What the double speaks: the wire version of the vendor's API, the encodings of a token request, and the pairs of query
//! strings and forms.

/// Wire version of the vendor's API (`docs/linxo-api.md` section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// Bare arrays, the token selects the user.
    V2_1,
    /// Wrapped lists, `user_id` as a query parameter.
    V3,
}

/// Encoding of a token request (`docs/linxo-api.md` section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBody {
    /// A JSON object.
    Json,
    /// `application/x-www-form-urlencoded`, credentials in the body.
    Form,
    /// `application/x-www-form-urlencoded`, credentials in an `Authorization: Basic` header.
    Basic,
}

/// The pairs of `a=1&b=x%20y+z`; what is not decodable is taken as it stands.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn decodes_what_clients_send() {
        let decoded: Vec<_> = pairs("a=1&b=x%20y+z&&c&d=100%&e=%C3%A9").collect();
        let expected = [("a", "1"), ("b", "x y z"), ("c", ""), ("d", "100%"), ("e", "é")];
        assert_eq!(decoded, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
