//! What a sink on a RabbitMQ broker is told.

use crate::{
    built::must_be_built,
    template::{self, Template},
    tls::Tls,
};
use base::secret::Secret;
use settings::{
    Flaw, Pair, duration, flat, pairs, secret, section, size, text,
    urls::{self, Schemes, Server},
};
use std::time::Duration;

section! {
    /// `[[sink]]` with type "amqp".
    pub struct Settings {
        /// The broker, `amqps://host:5671`, or `amqp://` on this machine.
        pub server: Server = text(server).example("\"amqps://rabbit.internal\""),
        /// The virtual host.
        pub vhost: String = text(plain).default("/"),
        /// The exchange; it must be there. `amq.default` is the broker's default exchange, for which `routing_key` names a queue.
        /// Attributes in braces as in `routing_key`.
        pub exchange: Template = text(template::routing_key).default("linxo"),
        /// The routing key. Attributes in braces: {connection}, {user}, {type}, {channel}, {mode}, {completion}, {id}, {merged}.
        pub routing_key: Template = text(template::routing_key).default("{type}.{connection}"),
        /// Headers on top of the sink's own; values as in `routing_key`, or secrets.
        pub headers: Vec<Pair> = pairs(template::extra_header).example("{ \"X-Team\" = \"bank\" }"),
        /// User name, with `password`. Without both the sink logs in by its `certificate` (EXTERNAL), and without that as `guest`.
        pub user: Option<String> = text(plain).optional(),
        /// Password of the user.
        pub password: Option<Secret> = secret(|_| Ok(())).optional(),
        /// Longest wait for the confirmation of a message.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// Largest event that is handed over. The broker's `max_message_size` holds as well.
        pub max_message: u64 = size().default("8 MiB").between("64 KiB", "64 MiB"),
        /// TLS towards the broker.
        pub tls: Tls = flat(),
    }
    check(at) {
        must_be_built(at, "amqp", cfg!(feature = "amqp"));
        at.needs("user", "password");
        at.needs("password", "user");
    }
}

fn server(text: &str) -> Result<Server, Flaw> {
    urls::server(text, &Schemes { encrypted: ("amqps", 5671), plain: ("amqp", 5672) })
}

/// Names travel as short strings.
fn plain(text: &str) -> Result<String, Flaw> {
    if text.len() <= 255 { Ok(text.to_owned()) } else { Err("is longer than 255 bytes".into()) }
}
