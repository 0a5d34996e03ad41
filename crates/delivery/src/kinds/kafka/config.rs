//! The settings in librdkafka's words.

use super::settings::{Mechanism, Settings};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use std::{fs, io, path::PathBuf, time::Duration};
use zeroize::Zeroizing;

/// Kibibytes of messages that are not acknowledged yet: more than the batches of a sink have under way, so that none is turned away.
const BUFFERED: u64 = 64 * 1024;
/// To reach a broker, TLS and the login included.
const CONNECT: Duration = Duration::from_secs(10);

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the file {}", path.display())]
pub(super) struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// What the producer is made of. Blocking: reads the files of TLS.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig, Unreadable> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).map(Zeroizing::new).map_err(|source| Unreadable { path: path.clone(), source })
    };
    let timeout = settings.timeout.as_millis().to_string();
    let largest = settings.max_message.saturating_add(64 * 1024);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "linxo-webhook")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", &timeout)
        .set("message.max.bytes", largest.to_string())
        .set("queue.buffering.max.kbytes", BUFFERED.max(largest.div_ceil(1024)).to_string())
        // Events wait for their acknowledgement, so a batch is what came together: nobody waits for more.
        .set("linger.ms", "0")
        .set("socket.connection.setup.timeout.ms", CONNECT.min(settings.timeout).as_millis().to_string())
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.ms", "250")
        .set("reconnect.backoff.max.ms", "10000")
        // A topic that is missing is an error of the configuration, soon.
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("allow.auto.create.topics", "false")
        .set("security.protocol", protocol(settings))
        .set_log_level(RDKafkaLogLevel::Emerg);
    if settings.encrypted {
        config.set("ssl.endpoint.identification.algorithm", "https");
        let mut authorities = Zeroizing::new(String::new());
        for path in &settings.tls.authorities {
            authorities.push_str(&read(path)?);
            authorities.push('\n');
        }
        if !authorities.is_empty() {
            config.set("ssl.ca.pem", authorities.as_str());
        }
        if let (Some(certificate), Some(key)) = (&settings.tls.certificate, &settings.tls.key) {
            config.set("ssl.certificate.pem", read(certificate)?.as_str()).set("ssl.key.pem", read(key)?.as_str());
        }
    }
    if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
        let mechanism = match settings.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism).set("sasl.username", user).set("sasl.password", password.expose());
    }
    Ok(config)
}

const fn protocol(settings: &Settings) -> &'static str {
    match (settings.encrypted, settings.user.is_some()) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => "plaintext",
    }
}
