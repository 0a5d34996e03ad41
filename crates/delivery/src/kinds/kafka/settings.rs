//! What a sink on Kafka is told.

use crate::{
    built::must_be_built,
    template::{self, Template},
    tls::Tls,
};
use base::{outbound, secret::Secret};
use settings::{At, Flaw, Pair, Read, duration, flag, flat, pairs, secret, section, size, text, texts, words};
use std::{net::IpAddr, time::Duration};

words! {
    /// How the sink logs in.
    pub enum Mechanism {
        /// The password itself, inside TLS.
        Plain = "plain",
        /// A proof of the password, by SHA-256.
        ScramSha256 = "scram-sha-256",
        /// A proof of the password, by SHA-512.
        ScramSha512 = "scram-sha-512",
    }
}

section! {
    /// `[[sink]]` with type "kafka".
    pub struct Settings {
        /// Brokers that tell of the others, as host and port.
        pub brokers: Vec<String> = texts(broker).example("[\"kafka.internal:9093\"]"),
        /// The topic. It must be there: the sink makes none. Attributes in braces: {connection}, {user}, {type}, {channel}, {mode},
        /// {completion}, {id}, {merged}.
        pub topic: Template = text(template::topic).default("linxo-events"),
        /// Headers on top of the sink's own; values as in `topic`, or secrets.
        pub headers: Vec<Pair> = pairs(template::extra_header).example("{ \"X-Team\" = \"bank\" }"),
        /// Whether the way to the brokers is encrypted. It may be false where all of `brokers` are this machine.
        pub encrypted: bool = flag().default("true"),
        /// User name, with `password`.
        pub user: Option<String> = text(user).example("\"linxo\"").optional(),
        /// Password of the user.
        pub password: Option<Secret> = secret(|_| Ok(())).example("{ file = \"secrets/kafka\" }").optional(),
        /// How the user logs in.
        pub mechanism: Mechanism = settings::word().default("scram-sha-512"),
        /// Longest wait for the acknowledgement of a message, from handing it over.
        pub timeout: Duration = duration().default("30s").between("1s", "10m"),
        /// Largest message that is handed over. The topic's `max.message.bytes` (1 MB unless it is raised) holds as well.
        pub max_message: u64 = size().default("8 MiB").between("64 KiB", "64 MiB"),
        /// TLS towards the brokers.
        pub tls: Tls = flat(),
    }
    check(at) {
        must_be_built(at, "kafka", cfg!(feature = "kafka"));
        some_broker(at, &brokers, encrypted);
        at.together("user", "password");
    }
}

fn some_broker(at: &mut At<'_, '_>, brokers: &Read<Vec<String>>, encrypted: Read<bool>) {
    let (Ok(brokers), Ok(encrypted)) = (brokers, encrypted) else { return };
    if brokers.is_empty() {
        at.flawed("brokers", Flaw::new("is required", "write brokers = [\"kafka.internal:9093\"]"));
    }
    if !encrypted && !brokers.iter().all(|broker| is_here(host(broker))) {
        let hint = "bank data goes there: remove it; false is only for localhost, 127.0.0.0/8 and [::1]";
        at.flawed("encrypted", Flaw::new("is false with a broker that is not this machine", hint));
    }
}

/// The host of a broker, without brackets.
fn host(broker: &str) -> &str {
    broker.rsplit_once(':').map_or(broker, |(host, _)| host).trim_matches(['[', ']'])
}

fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn broker(text: &str) -> Result<String, Flaw> {
    const HINT: &str = "write host and port, such as \"kafka.internal:9093\"";
    let Some((_, port)) = text.rsplit_once(':') else { return Err(Flaw::new("has no port", HINT)) };
    let host = host(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
    if port.parse::<u16>().is_err() || host.is_empty() || !host.chars().all(is_plain) {
        return Err(Flaw::new("is not host and port", HINT));
    }
    match host.parse::<IpAddr>().ok().and_then(outbound::refusal) {
        Some(refusal) => Err(Flaw::new(refusal, "name the broker that is meant")),
        None => Ok(text.to_owned()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the type of functions that read a text")]
fn user(text: &str) -> Result<String, Flaw> {
    Ok(text.to_owned())
}
