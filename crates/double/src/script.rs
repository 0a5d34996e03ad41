//! What goes wrong, when: a script of rules, and a random part that a seed repeats.
//!
//! In: each call that reaches the double. Out: the faults to play on it. Every rule that matches fires, in the order of
//! the script; those that bend the answer add up, and the first that replaces the answer wins.
//!
//! Promises: the random part depends on the seed, on the question (endpoint, page, connection, user), and on how often this
//! question was asked before. It does not depend on the order in which concurrent calls arrive, so that a failed run can be
//! repeated (tests in `player`).
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
//! [[rule]]                # four connections in ten, chosen by the seed, never get an answer
//! on = "accounts"
//! connections_percent = 40
//! fault = { kind = "stall_head" }
//!
//! [[rule]]                # each list is unknown for a second, then grows for nine more
//! on = "accounts"
//! fault = { kind = "late", unknown_ms = 1000, ms = 10000 }
//!
//! [random]                # besides: one call in ten meets a fault of this list, or of a built-in one without `faults`
//! percent = 10
//! faults = [{ kind = "reset" }, { kind = "change", insert = 1, remove = 1 }]
//! ```
//!
//! The kinds are the variants of [`Fault`] in snake case.

use crate::faults::{Endpoint, Fault};
use serde::Deserialize;
use std::path::Path;

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
    /// For how many of the connections, in percent. The seed chooses which, and they stay the same for all calls.
    #[serde(default = "always")]
    pub connections_percent: u8,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// A fault on every call of an endpoint.
    #[must_use]
    pub fn always(on: Endpoint, fault: Fault) -> Self {
        Self {
            on,
            page: None,
            connection: None,
            user: None,
            call: None,
            times: None,
            percent: 100,
            connections_percent: 100,
            fault,
        }
    }

    /// A fault on the first calls of an endpoint.
    #[must_use]
    pub fn first(times: u64, on: Endpoint, fault: Fault) -> Self {
        Self { times: Some(times), ..Self::always(on, fault) }
    }

    pub(crate) fn matches(&self, call: &Call<'_>, seed: u64) -> bool {
        (self.on == Endpoint::Any || self.on == call.endpoint)
            && self.page.is_none_or(|page| call.page == Some(page))
            && self.connection.as_deref().is_none_or(|id| call.connection == Some(id))
            && self.user.as_deref().is_none_or(|id| call.user == Some(id))
            && (self.connections_percent >= 100
                || call.connection.is_some_and(|id| drawn(seed, id) < self.connections_percent))
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
pub(crate) struct Call<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) page: Option<u64>,
    pub(crate) connection: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

/// A number below 100 that the seed draws for a connection.
fn drawn(seed: u64, connection: &str) -> u8 {
    // FNV-1a, as in `player`; then a generator, because the last bits of FNV-1a are those of the last letters.
    let hash = connection
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    fastrand::Rng::with_seed(hash ^ seed.rotate_left(32)).u8(..100)
}

fn always() -> u8 {
    100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_script_parses() {
        let head: Vec<&str> = include_str!("script.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        let script = Script::parse(&head.join("\n")).unwrap();
        assert_eq!(script.seed, 7);
        assert_eq!(script.rules.len(), 4);
        assert_eq!(script.rules[2].connections_percent, 40);
        assert_eq!(script.rules[3].fault, Fault::Late { unknown_ms: 1000, ms: 10_000 });
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
}
