//! Subjects, keys and headers that are made of a delivery's attributes: `linxo.{user}.{connection}`.
//!
//! In: the text of a template and the place that it is for; later the attributes of a delivery. Out: a text that is sound in
//! that place. The set of attributes is closed ([`Attribute`]). What a template's own text may hold is decided when the
//! configuration is loaded. What an attribute brings along is escaped as `%XX` (`_XX` in the name of a topic, which has no `%`), so no
//! value from outside adds a level to a subject, or a wildcard. An absent attribute is written as `-`.
//!
//! `{type}` keeps its dots: it always has four words of `a` to `z`, digits and `_`.

use crate::attributes::Attributes;
use settings::{Flaw, Given, Pair};
use std::{borrow::Cow, fmt};

/// What stands for an attribute that a delivery does not have.
const ABSENT: &str = "-";

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A subject of NATS: tokens with dots between, without white space and wildcards.
    Subject,
    /// A routing key or the name of an exchange of AMQP: up to 255 bytes. Topic exchanges read dots as separators.
    RoutingKey,
    /// The name of a topic of Kafka: letters, digits, `.`, `_` and `-`.
    Topic,
    /// The key of a Redis stream. A cluster hashes what stands in braces; people and tools separate with colons.
    StreamKey,
    /// The value of a header.
    Header,
}

impl Place {
    /// Most bytes that fit.
    const fn longest(self) -> usize {
        match self {
            Self::RoutingKey => 255,
            Self::Topic => 249,
            Self::Subject | Self::StreamKey => 1024,
            Self::Header => 8192,
        }
    }

    /// What it is called.
    const fn name(self) -> &'static str {
        match self {
            Self::Subject => "the subject",
            Self::RoutingKey => "the exchange or routing key",
            Self::Topic => "the topic",
            Self::StreamKey => "the key of the stream",
            Self::Header => "a header",
        }
    }

    /// Whether a byte of an attribute may stand there as it is.
    const fn takes(self, byte: u8) -> bool {
        match self {
            Self::Subject => byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'%'),
            Self::RoutingKey => byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'#' | b'%'),
            Self::Topic => byte.is_ascii_alphanumeric() || byte == b'-',
            Self::StreamKey => byte.is_ascii_graphic() && !matches!(byte, b':' | b'{' | b'}' | b'%'),
            Self::Header => byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%'),
        }
    }

    /// What begins an escaped byte; it never stands for itself in a value.
    #[cfg(any(feature = "broker", test))]
    const fn escape(self) -> char {
        match self {
            Self::Topic => '_',
            Self::Subject | Self::RoutingKey | Self::StreamKey | Self::Header => '%',
        }
    }

    /// Whether a character may stand in the template's own text.
    const fn allows(self, c: char) -> bool {
        match self {
            Self::Subject => c.is_ascii_graphic() && !matches!(c, '*' | '>'),
            Self::RoutingKey | Self::StreamKey => c.is_ascii_graphic(),
            Self::Topic => c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
            Self::Header => c.is_ascii_graphic() || c == ' ',
        }
    }
}

/// What a template may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Id,
    Type,
    Connection,
    User,
    Channel,
    Mode,
    Completion,
    Merged,
}

/// Each attribute with its word.
const ATTRIBUTES: [(&str, Attribute); 8] = [
    ("connection", Attribute::Connection),
    ("user", Attribute::User),
    ("type", Attribute::Type),
    ("channel", Attribute::Channel),
    ("mode", Attribute::Mode),
    ("completion", Attribute::Completion),
    ("id", Attribute::Id),
    ("merged", Attribute::Merged),
];

impl Attribute {
    fn of(self, attributes: &Attributes) -> Option<Cow<'_, str>> {
        let text = match self {
            Self::Id => Some(attributes.id.as_str()),
            Self::Type => Some(attributes.cloud_type.as_str()),
            Self::Connection => Some(attributes.subject.as_str()),
            Self::User => attributes.linxouser.as_ref().map(event::UserId::as_str),
            Self::Channel => attributes.linxochannel.as_ref().map(event::ChannelDefinitionId::as_str),
            Self::Mode => attributes.linxomode.as_deref(),
            Self::Completion => Some(attributes.linxocompletion.as_str()),
            Self::Merged => return attributes.merged().map(Cow::Owned),
        };
        text.map(Cow::Borrowed)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Attribute(Attribute),
}

/// A template that was checked for its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
    place: Place,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The subject of a NATS message.
pub(crate) fn subject(text: &str) -> Result<Template, Flaw> {
    let template = Template::new(text, Place::Subject)?;
    if text.starts_with('$') || text.starts_with("_INBOX.") {
        return Err(Flaw::new("belongs to NATS itself", "begin with a word of your own, such as \"linxo\""));
    }
    if text.split('.').any(str::is_empty) {
        let hint = "write words with single dots between them, such as \"linxo.{connection}\"";
        return Err(Flaw::new("has an empty word", hint));
    }
    Ok(template)
}

/// The name of an AMQP exchange, or a routing key.
pub(crate) fn routing_key(text: &str) -> Result<Template, Flaw> {
    Template::new(text, Place::RoutingKey)
}

/// The name of a Kafka topic.
pub(crate) fn topic(text: &str) -> Result<Template, Flaw> {
    let template = Template::new(text, Place::Topic)?;
    if ["", ".", ".."].contains(&text) {
        return Err(Flaw::new("is not the name of a topic", "take up to 249 letters, digits, `.`, `_` and `-`"));
    }
    Ok(template)
}

/// The key of a Redis stream.
pub(crate) fn stream_key(text: &str) -> Result<Template, Flaw> {
    Template::new(text, Place::StreamKey)
}

/// The value of a header.
pub(crate) fn header(text: &str) -> Result<Template, Flaw> {
    Template::new(text, Place::Header)
}

/// A header that is configured beside those that the sink writes itself. Values that are secrets are fixed; others are templates.
pub(crate) fn extra_header(pair: &Pair) -> Result<(), Flaw> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if pair.name.is_empty() || pair.name.len() > 128 || !pair.name.bytes().all(is_token) {
        return Err(Flaw::new("is not the name of a header", "use letters, digits, `-`, `_` and `.`"));
    }
    let name = pair.name.to_ascii_lowercase();
    if ["id", "event", "content-type"].contains(&name.as_str())
        || ["ce-", "nats-"].iter().any(|own| name.starts_with(own))
    {
        return Err(Flaw::new("is written by the sink itself", "choose another name"));
    }
    match &pair.value {
        Given::Text(text) => header(text).map(drop),
        Given::Secret(secret) if secret.expose().chars().all(|c| Place::Header.allows(c)) => Ok(()),
        Given::Secret(_) => Err("has line ends or characters outside of ASCII".into()),
    }
}

impl Template {
    fn new(text: &str, place: Place) -> Result<Self, Flaw> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once('{') {
            parts.push(own(before, place)?);
            let (word, behind) = opened.split_once('}').ok_or_else(|| {
                Flaw::new("has a `{` without its `}`", "write attributes in braces, such as {connection}")
            })?;
            parts.push(Part::Attribute(named(word)?));
            rest = behind;
        }
        parts.push(own(rest, place)?);
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        let length: usize = parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 1 }).sum();
        if length > place.longest() {
            return Err(format!("is longer than {} bytes, which is all that fits there", place.longest()).into());
        }
        Ok(Self { text: text.to_owned(), parts, place })
    }
}

/// The template's own text between two attributes.
fn own(text: &str, place: Place) -> Result<Part, Flaw> {
    if text.contains('}') {
        return Err(Flaw::new("has a `}` without its `{`", "write attributes in braces, such as {connection}"));
    }
    match text.chars().find(|c| !place.allows(*c)) {
        None => Ok(Part::Text(text.to_owned())),
        Some(c) => Err(format!("has the character {c:?}, which cannot stand there").into()),
    }
}

fn named(word: &str) -> Result<Attribute, Flaw> {
    let found = ATTRIBUTES.iter().find(|(known, _)| *known == word).map(|(_, attribute)| *attribute);
    found.ok_or_else(|| {
        let known: Vec<_> = ATTRIBUTES.iter().map(|(word, _)| format!("{{{word}}}")).collect();
        Flaw::new(format!("names the attribute {word:?}, which there is not"), format!("use {}", known.join(", ")))
    })
}

#[cfg(any(feature = "broker", test))]
impl Template {
    /// The text, where it is the same for every delivery.
    pub(crate) fn fixed(&self) -> Option<&str> {
        let is_fixed = self.parts.iter().all(|part| matches!(part, Part::Text(_)));
        is_fixed.then_some(&self.text)
    }

    /// The text for a delivery.
    ///
    /// # Errors
    /// What is too long for its place, as a failure that this delivery has everywhere.
    pub(crate) fn render(&self, attributes: &Attributes) -> Result<String, crate::Failure> {
        let mut text = String::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(own) => text.push_str(own),
                Part::Attribute(attribute) => {
                    let value = attribute.of(attributes).filter(|value| !value.is_empty()).unwrap_or(ABSENT.into());
                    let keeps_dots = *attribute == Attribute::Type;
                    let takes = |byte| self.place.takes(byte) || keeps_dots && byte == b'.';
                    text.push_str(&escaped(&value, takes, self.place.escape()));
                }
            }
        }
        let longest = self.place.longest();
        if text.len() <= longest {
            return Ok(text);
        }
        Err(crate::Failure::new(
            crate::FailureKind::Refused { status: Some(414) },
            format!(
                "{} made of {:?} is {} bytes long for this event, and {longest} fit: use shorter attributes",
                self.place.name(),
                self.text,
                text.len()
            ),
        ))
    }
}

/// Headers that are configured, ready to be written.
#[cfg(feature = "broker")]
pub(crate) struct Headers(Vec<(String, HeaderText)>);

#[cfg(feature = "broker")]
enum HeaderText {
    Template(Template),
    Secret(base::secret::Secret),
}

#[cfg(feature = "broker")]
impl Headers {
    /// From pairs that passed [`extra_header`]; others are left out.
    pub(crate) fn new(pairs: &[Pair]) -> Self {
        let text = |pair: &Pair| {
            let text = match &pair.value {
                Given::Text(text) => HeaderText::Template(header(text).ok()?),
                Given::Secret(secret) => HeaderText::Secret(secret.clone()),
            };
            Some((pair.name.clone(), text))
        };
        Self(pairs.iter().filter_map(text).collect())
    }

    /// Names and values for a delivery.
    ///
    /// # Errors
    /// Those of [`Template::render`].
    pub(crate) fn render(&self, attributes: &Attributes) -> Result<Vec<(&str, String)>, crate::Failure> {
        let value = |text: &HeaderText| match text {
            HeaderText::Template(template) => template.render(attributes),
            HeaderText::Secret(secret) => Ok(secret.expose().to_owned()),
        };
        self.0.iter().map(|(name, text)| Ok((name.as_str(), value(text)?))).collect()
    }
}

/// A value with the bytes that may not stand as they are written as `escape` and two hexadecimal digits.
#[cfg(any(feature = "broker", test))]
fn escaped(value: &str, takes: impl Fn(u8) -> bool, escape: char) -> Cow<'_, str> {
    if value.bytes().all(&takes) {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if takes(byte) {
            text.push(char::from(byte));
        } else {
            text.push(escape);
            text.push_str(percent_encoding::percent_encode_byte(byte).trim_start_matches('%'));
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use event::{ConnectionId, UserId};
    use proptest::prelude::*;

    fn reason(result: Result<Template, Flaw>) -> String {
        result.unwrap_err().reason
    }

    #[test]
    fn attributes_are_put_in_their_places() {
        let attributes = fixture::attributes("e.1");
        let rendered = |template: Result<Template, Flaw>| template.unwrap().render(&attributes).unwrap();
        assert_eq!(rendered(subject("{type}.{connection}")), "com.linxo.connections.updated.123");
        assert_eq!(rendered(subject("bank.{id}.{mode}")), "bank.e%2E1.-");
        assert_eq!(rendered(topic("bank.{type}-{id}")), "bank.com.linxo.connections.updated-e_2E1");
        assert_eq!(rendered(routing_key("{user}#{channel}")), "321#24601");
        assert_eq!(rendered(stream_key("linxo:{completion}")), "linxo:event");
        assert_eq!(rendered(header("for {user}, {id}")), "for 321, e.1");
        assert_eq!(rendered(header("{merged}")), "-");
        let merged = ["e1", "e,2"].map(base::names::DeliveryId::new).to_vec();
        let merged = Attributes { linxomerged: merged, ..attributes.clone() };
        assert_eq!(header("{merged}").unwrap().render(&merged).unwrap(), "e1,e%252C2");
        assert_eq!(subject("a.{type}").unwrap().to_string(), "a.{type}");
        assert_eq!(
            [subject("a.{type}"), subject("a.b")].map(|template| template.unwrap().fixed().map(str::to_owned)),
            [None, Some("a.b".to_owned())]
        );
    }

    #[test]
    fn what_cannot_stand_there_is_refused_when_it_is_loaded() {
        for (text, wanted) in [
            ("a.*", "has the character '*', which cannot stand there"),
            ("a.>", "has the character '>', which cannot stand there"),
            ("a b", "has the character ' ', which cannot stand there"),
            ("é", "has the character 'é', which cannot stand there"),
            ("a..b", "has an empty word"),
            (".a", "has an empty word"),
            ("a.", "has an empty word"),
            ("$JS.API", "belongs to NATS itself"),
            ("_INBOX.a", "belongs to NATS itself"),
            ("a.{iban}", "names the attribute \"iban\", which there is not"),
            ("a.{user", "has a `{` without its `}`"),
            ("a.user}", "has a `}` without its `{`"),
        ] {
            assert_eq!(reason(subject(text)), wanted, "{text}");
        }
        let hint = subject("{iban}").unwrap_err().hint.unwrap();
        assert_eq!(hint, "use {connection}, {user}, {type}, {channel}, {mode}, {completion}, {id}, {merged}");
        for (text, wanted) in [
            ("..", "is not the name of a topic"),
            ("", "is not the name of a topic"),
            ("a:b", "has the character ':', which cannot stand there"),
        ] {
            assert_eq!(reason(topic(text)), wanted, "{text}");
        }
        assert!(reason(routing_key(&"a".repeat(256))).starts_with("is longer than 255 bytes"));
        assert_eq!(reason(header("a\tb")), "has the character '\\t', which cannot stand there");
    }

    #[test]
    fn what_becomes_too_long_is_a_failure_of_this_event() {
        let mut attributes = fixture::attributes("e1");
        attributes.linxouser = Some(UserId::new(".".repeat(100)));
        let failure = routing_key("{user}").unwrap().render(&attributes).unwrap_err();
        assert!(failure.reason.contains("is 300 bytes long for this event, and 255 fit"), "{}", failure.reason);
    }

    proptest! {
        /// No value adds a level, a wildcard, white space or anything that ends a line; and no two values look alike.
        #[test]
        fn values_stay_values(one in "\\PC{0,20}|[-.*>#:{} %\r\n\0]{0,6}", other in "\\PC{0,20}|[-.*>#:{} %]{0,6}") {
            for (template, odd) in [
                (subject("a.{connection}.z").unwrap(), &b".*> \r\n"[..]),
                (routing_key("a.{connection}.z").unwrap(), b".*# \r\n"),
                (topic("a.{connection}.z").unwrap(), b".% \r\n"),
                (stream_key("a:{connection}:z").unwrap(), b":{} \r\n"),
                (header("a {connection} z").unwrap(), b" \"\r\n"),
            ] {
                let rendered = |connection: &str| {
                    let mut attributes = fixture::attributes("e1");
                    attributes.subject = ConnectionId::new(connection);
                    template.render(&attributes).unwrap()
                };
                let text = rendered(&one);
                let value = &text[2..text.len() - 2];
                prop_assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
                prop_assert!(!value.bytes().any(|byte| odd.contains(&byte)), "{text}");
                let are_same = one == other || [&one, &other].iter().all(|value| value.is_empty() || *value == "-");
                prop_assert_eq!(text == rendered(&other), are_same);
            }
        }
    }
}
