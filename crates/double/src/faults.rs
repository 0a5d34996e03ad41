//! What goes wrong, when: a script of rules, and a random part that a seed repeats.
//!
//! In: each call that reaches the double. Out: the faults to play on it. Every rule that matches fires, in the order of
//! the script; those that bend the answer add up, and the first that replaces the answer wins.
//!
//! Promises: the random part depends on the seed, the rule, and what is asked for the how-manieth time, not on the order
//! in which concurrent calls happen to arrive, so that a failed run can be repeated.
//!
//! A script is a TOML or JSON file:
//!
//! ```toml
//! seed = 7
//!
//! [[rule]]                # the second call for page 2 of any listing is answered 429
//! on = "accounts"         # any | token | accounts | connection | connections   [default: any]
//! page = 2                # also: connection = "700001", user = "300001"
//! call = 2                # only the n-th matching call, from 1
//! fault = { kind = "status", status = 429, retry_after = "1" }
//!
//! [[rule]]                # three times, at random one call in four: the connection breaks in the middle of the body
//! on = "accounts"
//! percent = 25
//! times = 3
//! fault = { kind = "cut" }
//!
//! [random]                # besides: one call in ten meets a fault of this list, or of a built-in one without `faults`
//! percent = 10
//! faults = [{ kind = "reset" }, { kind = "change", insert = 1, remove = 1 }]
//! ```
//!
//! The kinds are the variants of [`Fault`] in snake case.

use serde::Deserialize;
use std::{collections::HashMap, path::Path};

/// An endpoint of the double.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// In a rule: every endpoint. In the journal: a path that the double does not know.
    #[default]
    Any,
    /// `POST /token`
    Token,
    /// `GET /accounts`
    Accounts,
    /// `GET /connections/{id}`
    Connection,
    /// `GET /connections`
    Connections,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// This status, with the vendor's error body or with HTML.
    Status {
        /// 400 to 599.
        status: u16,
        /// `Retry-After`: sent as it stands, except `date:N`, which becomes the HTTP date N seconds from now.
        #[serde(default)]
        retry_after: Option<String>,
        /// An HTML body, as a proxy in between would send.
        #[serde(default)]
        html: bool,
    },
    /// 401 `invalid_token`, whatever the token.
    Unauthorized,
    /// Every token given out so far expires before this call is looked at.
    ExpireTokens,
    /// 403: the user must accept new terms and conditions.
    TermsRequired,
    /// 404: the connection is gone.
    UnknownConnection,
    /// 204 without a body.
    NoContent,
    /// 200 with an HTML page.
    Html,
    /// 200 with this body, as `application/json`.
    Body {
        /// The body.
        body: String,
    },
    /// The right answer after this time.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing at all for this time, then the right answer.
    StallHead {
        /// Milliseconds; an hour, if not given.
        #[serde(default = "an_hour")]
        ms: u64,
    },
    /// Half of the body, then nothing for this time.
    StallBody {
        /// Milliseconds; an hour, if not given.
        #[serde(default = "an_hour")]
        ms: u64,
    },
    /// The body a few bytes at a time.
    Drip {
        /// Bytes at a time.
        #[serde(default = "one")]
        bytes: usize,
        /// Milliseconds between.
        #[serde(default = "a_hundred")]
        every_ms: u64,
    },
    /// The connection breaks in the body (over HTTP/2: the stream).
    Cut {
        /// After this many bytes; half, if not given.
        #[serde(default)]
        after: Option<usize>,
    },
    /// The connection breaks without an answer (over HTTP/2: the stream).
    Reset,
    /// The body stops in the middle, though the HTTP message is whole.
    Truncate,
    /// A JSON array without end.
    Endless,
    /// `Content-Encoding: gzip`, which inflates to this much.
    GzipBomb {
        /// Bytes after inflating; 1 GiB, if not given.
        #[serde(default = "a_gibibyte")]
        bytes: u64,
    },
    /// The right body, padded with spaces.
    Huge {
        /// Bytes in all; 1 GiB, if not given.
        #[serde(default = "a_gibibyte")]
        bytes: u64,
    },
    /// 302.
    Redirect {
        /// Where to.
        to: Target,
        /// The `Location` for `other`; a host that does not exist, if not given.
        #[serde(default)]
        location: Option<String>,
    },
    /// Page 1 again, whatever page is asked for.
    RepeatPage,
    /// Pages of this size, whatever limit is asked for; the whole list at once, if not given.
    IgnoreLimit {
        /// Accounts a page.
        #[serde(default)]
        size: Option<usize>,
    },
    /// Every account of the user, whatever connection is asked for.
    IgnoreFilter,
    /// Ids as JSON integers.
    IntegerIds,
    /// The right body under this `Content-Type`.
    WrongType {
        /// Such as `text/plain`.
        content_type: String,
    },
    /// Accounts come and go before this call is answered.
    Change {
        /// How many come.
        #[serde(default)]
        insert: u32,
        /// How many go.
        #[serde(default)]
        remove: u32,
    },
    /// `expires_in` of a token answer: any JSON value, or absent.
    ExpiresIn {
        /// The value.
        #[serde(default)]
        value: Option<serde_json::Value>,
    },
}

impl Fault {
    /// The kind, as a script spells it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Unauthorized => "unauthorized",
            Self::ExpireTokens => "expire_tokens",
            Self::TermsRequired => "terms_required",
            Self::UnknownConnection => "unknown_connection",
            Self::NoContent => "no_content",
            Self::Html => "html",
            Self::Body { .. } => "body",
            Self::Delay { .. } => "delay",
            Self::StallHead { .. } => "stall_head",
            Self::StallBody { .. } => "stall_body",
            Self::Drip { .. } => "drip",
            Self::Cut { .. } => "cut",
            Self::Reset => "reset",
            Self::Truncate => "truncate",
            Self::Endless => "endless",
            Self::GzipBomb { .. } => "gzip_bomb",
            Self::Huge { .. } => "huge",
            Self::Redirect { .. } => "redirect",
            Self::RepeatPage => "repeat_page",
            Self::IgnoreLimit { .. } => "ignore_limit",
            Self::IgnoreFilter => "ignore_filter",
            Self::IntegerIds => "integer_ids",
            Self::WrongType { .. } => "wrong_type",
            Self::Change { .. } => "change",
            Self::ExpiresIn { .. } => "expires_in",
        }
    }
}

/// Where a redirect leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The same origin, where the right answer waits.
    Same,
    /// Another origin, which must never see a token.
    Other,
    /// Itself.
    Loop,
}

/// When to play a fault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which endpoint.
    #[serde(default)]
    pub on: Endpoint,
    /// Which page of a listing.
    #[serde(default)]
    pub page: Option<u64>,
    /// Which connection is asked for.
    #[serde(default)]
    pub connection: Option<String>,
    /// Which user is asked for.
    #[serde(default)]
    pub user: Option<String>,
    /// Only the n-th matching call, from 1.
    #[serde(default)]
    pub call: Option<u64>,
    /// At most this often.
    #[serde(default)]
    pub times: Option<u64>,
    /// How likely, in percent.
    #[serde(default = "always")]
    pub percent: u8,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// A fault on every call of an endpoint.
    #[must_use]
    pub fn always(on: Endpoint, fault: Fault) -> Self {
        Self { on, page: None, connection: None, user: None, call: None, times: None, percent: 100, fault }
    }

    /// A fault on the first calls of an endpoint.
    #[must_use]
    pub fn first(times: u64, on: Endpoint, fault: Fault) -> Self {
        Self { times: Some(times), ..Self::always(on, fault) }
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        (self.on == Endpoint::Any || self.on == call.endpoint)
            && self.page.is_none_or(|page| call.page == Some(page))
            && self.connection.as_deref().is_none_or(|id| call.connection == Some(id))
            && self.user.as_deref().is_none_or(|id| call.user == Some(id))
    }
}

/// The random part.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// How likely a call meets a fault, in percent.
    pub percent: u8,
    /// Which faults, each as likely; empty: a built-in list of those from which a caller can recover.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// A whole script.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Repeats the random part.
    pub seed: u64,
    /// Looked at in this order.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
    /// Besides the rules.
    pub random: Option<Random>,
}

/// Why a script cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read, or is not TOML.
    #[error("cannot read the script")]
    Read(#[source] ::config::ConfigError),
    /// The file could not be read, or is not JSON.
    #[error("cannot read the script")]
    Json(#[source] std::io::Error),
    /// A member is unknown, missing or of the wrong type.
    #[error("the script is wrong at `{path}`")]
    Shape {
        /// Such as `rule[0].fault`.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Script {
    /// A script of rules alone.
    #[must_use]
    pub fn of(rules: impl Into<Vec<Rule>>) -> Self {
        Self { rules: rules.into(), ..Self::default() }
    }

    /// Random faults alone, from the built-in list.
    #[must_use]
    pub fn random(seed: u64, percent: u8) -> Self {
        Self { seed, rules: Vec::new(), random: Some(Random { percent, faults: Vec::new() }) }
    }

    /// Reads a script: JSON where the name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Json`] when the file cannot be read, [`Error::Shape`] with the path of what is wrong.
    pub fn read(path: &Path) -> Result<Self, Error> {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            let text = std::fs::read_to_string(path).map_err(Error::Json)?;
            Self::from_value(serde_json::from_str(&text).map_err(|error| Error::Json(error.into()))?)
        } else {
            Self::from_toml(::config::File::from(path).format(::config::FileFormat::Toml))
        }
    }

    /// Parses a TOML text.
    ///
    /// # Errors
    /// As [`Script::read`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::from_toml(::config::File::from_str(text, ::config::FileFormat::Toml))
    }

    fn from_toml(source: impl ::config::Source + Send + Sync + 'static) -> Result<Self, Error> {
        let toml = ::config::Config::builder().add_source(source).build().map_err(Error::Read)?;
        Self::from_value(toml.try_deserialize().map_err(Error::Read)?)
    }

    fn from_value(value: serde_json::Value) -> Result<Self, Error> {
        serde_path_to_error::deserialize(value)
            .map_err(|error| Error::Shape { path: error.path().to_string(), source: error.into_inner() })
    }
}

/// One call, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) page: Option<u64>,
    pub(super) connection: Option<&'a str>,
    pub(super) user: Option<&'a str>,
}

impl Call<'_> {
    /// A number that is the same for the same question in every run.
    fn key(&self) -> u64 {
        let text = format!("{:?} {:?} {:?} {:?}", self.endpoint, self.page, self.connection, self.user);
        // FNV-1a: the standard library does not promise its hash from one version to the next.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// A script being played.
#[derive(Debug, Default)]
pub(super) struct Player {
    script: Script,
    /// For each rule: calls that matched, calls on which it fired.
    rules: Vec<(u64, u64)>,
    /// How often each question was asked.
    asked: HashMap<u64, u64>,
}

impl Player {
    pub(super) fn new(script: Script) -> Self {
        let rules = vec![(0, 0); script.rules.len()];
        Self { script, rules, asked: HashMap::new() }
    }

    /// The faults of this call, and the dice for whatever they leave open.
    pub(super) fn decide(&mut self, call: &Call<'_>) -> (Vec<Fault>, fastrand::Rng) {
        let key = call.key();
        let asked = self.asked.entry(key).or_default();
        *asked = asked.wrapping_add(1);
        let question = key ^ asked.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.script.seed.rotate_left(32);
        let mut rng = fastrand::Rng::with_seed(question);
        let mut faults = Vec::new();
        for (rule, (matched, fired)) in self.script.rules.iter().zip(&mut self.rules) {
            if !rule.matches(call) {
                continue;
            }
            *matched = matched.saturating_add(1);
            let due = rule.call.is_none_or(|call| call == *matched)
                && rule.times.is_none_or(|times| *fired < times)
                && rng.u8(..100) < rule.percent;
            if due {
                *fired = fired.saturating_add(1);
                faults.push(rule.fault.clone());
            }
        }
        if let Some(random) = &self.script.random
            && rng.u8(..100) < random.percent
        {
            let built_in;
            let choice = if random.faults.is_empty() {
                built_in = recoverable();
                &built_in
            } else {
                &random.faults
            };
            faults.extend(rng.choice(choice).cloned());
        }
        (faults, rng)
    }
}

/// Faults from which a caller that tries again recovers.
fn recoverable() -> Vec<Fault> {
    let status = |status, retry_after: Option<&str>, html| Fault::Status {
        status,
        retry_after: retry_after.map(str::to_owned),
        html,
    };
    vec![
        status(500, None, false),
        status(502, None, true),
        status(503, Some("1"), false),
        status(503, Some("date:1"), true),
        status(429, Some("1"), false),
        status(429, Some("soon"), false),
        status(429, None, false),
        Fault::Unauthorized,
        Fault::ExpireTokens,
        Fault::NoContent,
        Fault::Html,
        Fault::Body { body: "\u{feff}[{\"id\":1e400}".to_owned() },
        Fault::Delay { ms: 100 },
        Fault::Drip { bytes: 512, every_ms: 1 },
        Fault::Cut { after: None },
        Fault::Reset,
        Fault::Truncate,
        Fault::Redirect { to: Target::Loop, location: None },
        Fault::Change { insert: 1, remove: 1 },
    ]
}

fn always() -> u8 {
    100
}

fn one() -> usize {
    1
}

fn a_hundred() -> u64 {
    100
}

fn an_hour() -> u64 {
    3_600_000
}

fn a_gibibyte() -> u64 {
    1 << 30
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(page: u64) -> Call<'static> {
        Call { endpoint: Endpoint::Accounts, page: Some(page), connection: Some("123"), user: None }
    }

    #[test]
    fn the_documented_script_parses() {
        let head: Vec<&str> = include_str!("faults.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        let script = Script::parse(&head.join("\n")).unwrap();
        assert_eq!(script.seed, 7);
        assert_eq!(script.rules.len(), 2);
        assert_eq!(script.rules[0].call, Some(2));
        assert_eq!(script.rules[1].fault, Fault::Cut { after: None });
        assert_eq!(script.random.unwrap().faults.len(), 2);
    }

    #[test]
    fn json_says_the_same_as_toml() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script.json");
        std::fs::write(&path, r#"{"rule":[{"on":"token","fault":{"kind":"expires_in","value":"3600"}}]}"#).unwrap();
        let toml = "[[rule]]\non = \"token\"\nfault = { kind = \"expires_in\", value = \"3600\" }";
        assert_eq!(Script::read(&path).unwrap(), Script::parse(toml).unwrap());
    }

    #[test]
    fn a_wrong_script_says_where() {
        let error = Script::parse("[[rule]]\nfault = { kind = \"resett\" }").unwrap_err();
        assert!(matches!(&error, Error::Shape { path, .. } if path.starts_with("rule[0]")), "{error:?}");
        Script::parse("[[rule]]\nwhen = 1\nfault = { kind = \"reset\" }").unwrap_err();
        Script::parse("[[rule]]\nfault = { kind = \"cut\", aftr = 3 }").unwrap_err();
    }

    #[test]
    fn rules_count_their_calls() {
        let mut player = Player::new(Script::of([
            Rule { page: Some(2), call: Some(2), ..Rule::always(Endpoint::Accounts, Fault::Reset) },
            Rule::first(1, Endpoint::Any, Fault::NoContent),
        ]));
        let mut kinds = |page| player.decide(&accounts(page)).0.iter().map(Fault::kind).collect::<Vec<_>>();
        assert_eq!(kinds(2), ["no_content"]);
        assert_eq!(kinds(1), [""; 0]);
        assert_eq!(kinds(2), ["reset"]);
        assert_eq!(kinds(2), [""; 0]);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_in_any_order() {
        let play = |seed, pages: &[u64]| {
            let mut player = Player::new(Script::random(seed, 50));
            let mut faults: Vec<_> = pages.iter().map(|page| (*page, player.decide(&accounts(*page)).0)).collect();
            faults.sort_by_key(|(page, _)| *page);
            faults
        };
        let forwards: Vec<u64> = (1..=50).collect();
        let backwards: Vec<u64> = (1..=50).rev().collect();
        assert_eq!(play(1, &forwards), play(1, &backwards));
        assert_ne!(play(1, &forwards), play(2, &forwards));
    }
}
