//! What is told of traces: `[traces]`.

use super::headers;
use base::secret::Secret;
use settings::{Flaw, authorities, duration, number, secret, section, switch, text, texts, url, urls};
use std::{fmt, path::PathBuf, time::Duration};

section! {
    /// Traces by OpenTelemetry (OTLP over HTTP). Without this section none are recorded.
    pub struct Traces {
        /// Base of the collector's URL, without a slash at the end: spans are posted to `/v1/traces` below it. `https://`, or
        /// `http://` to this machine.
        pub endpoint: String = url(urls::base).example("\"http://127.0.0.1:4318\""),
        /// Headers of every export, such as a token of the collector: `name=value`, several separated by commas, as in
        /// OTEL_EXPORTER_OTLP_HEADERS.
        pub headers: Option<Secret> = secret(headers::check).example("{ file = \"secrets/otlp\" }").optional(),
        /// Share of the traces that begin here and are recorded, from 0 to 1. It is decided once for each event.
        pub sample: Share = text(share).default("1"),
        /// Whether callers are believed that name a trace of theirs (`traceparent`).
        pub trusts_callers("callers"): bool = switch(
            (
                "untrusted",
                "Each event begins a trace of its own, with a link to the caller's. `sample` decides whether it is recorded.",
            ),
            ("trusted", "The caller's trace goes on here, and is recorded if the caller says so."),
        ).default("untrusted"),
        /// Attributes of the resource, as in OTEL_RESOURCE_ATTRIBUTES: such as `deployment.environment.name=production`.
        /// `service.name` is "linxo-webhook" unless it is given.
        pub resource: Vec<Attribute> = texts(attribute),
        /// Spans that may wait to be sent. While it is full, further ones are dropped and counted.
        pub queue: usize = number().default("2048").between("64", "1000000"),
        /// Longest time for one export, from connecting to the last byte of the answer.
        pub timeout: Duration = duration().default("10s").between("100ms", "1m"),
        /// PEM files of extra root certificates.
        pub authorities: Vec<PathBuf> = authorities(),
    }
}

/// A share from 0 to 1, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share(String);

impl Share {
    /// As a number.
    pub(super) fn ratio(&self) -> f64 {
        // It was read when it was made.
        self.0.parse().unwrap_or_default()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn share(text: &str) -> Result<Share, Flaw> {
    let is_share = text.parse().is_ok_and(|share: f64| (0.0..=1.0).contains(&share));
    let hint = "write a number such as \"0.05\", for one trace in twenty";
    if is_share { Ok(Share(text.to_owned())) } else { Err(Flaw::new("is no number from 0 to 1", hint)) }
}

/// An attribute of the resource: a name and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub(super) name: String,
    pub(super) value: String,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

fn attribute(text: &str) -> Result<Attribute, Flaw> {
    let (name, value) = text.split_once('=').unwrap_or_default();
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    if name.is_empty() || value.is_empty() {
        return Err(Flaw::new("is not of the form `name=value`", "write \"deployment.environment.name=production\""));
    }
    Ok(Attribute { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.05", 0.05), ("1e-3", 0.001)] {
            assert_eq!(share(text).unwrap().ratio().to_bits(), f64::to_bits(ratio), "{text}");
        }
        for text in ["", "x", "-0.1", "1.01", "NaN", "inf", "50%", "0,5"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn attributes_have_a_name_and_a_value() {
        assert_eq!(attribute("a.b = c=d").unwrap().to_string(), "a.b=c=d");
        for text in ["", "a", "=b", "a=", " = "] {
            assert!(attribute(text).is_err(), "{text}");
        }
    }
}
