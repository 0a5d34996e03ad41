//! What a sink on a Redis stream is told.

use crate::{
    built::must_be_built,
    template::{self, Template},
    tls::Tls,
};
use base::secret::Secret;
use settings::{
    Flaw, Pair, duration, flat, number, pairs, secret, section, size, text,
    urls::{self, Schemes, Server},
};
use std::{num::NonZeroU32, time::Duration};

section! {
    /// `[[sink]]` with type "redis".
    pub struct Settings {
        /// The server, `rediss://host:6379`, or `redis://` on this machine.
        pub server: Server = text(server).example("\"rediss://redis.internal\""),
        /// Number of the database.
        pub database: u32 = number().default("0").between("0", "65535"),
        /// Key of the stream. Attributes in braces: {connection}, {user}, {type}, {channel}, {mode}, {completion}, {id}, {merged}.
        pub stream: Template = text(template::stream_key).default("linxo:events"),
        /// Entries that the stream keeps, about; the oldest go first, read or not. 0 keeps all.
        pub maxlen: Option<NonZeroU32> = number().default("0"),
        /// Fields on top of the sink's own; values as in `stream`, or secrets.
        pub fields: Vec<Pair> = pairs(template::extra_header).example("{ \"team\" = \"bank\" }"),
        /// User name (ACL), with `password`.
        pub user: Option<String> = text(|text| Ok(text.to_owned())).optional(),
        /// Password; without `user` that of the default user.
        pub password: Option<Secret> = secret(|_| Ok(())).optional(),
        /// Longest wait for the server's answer.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// Largest event that is handed over.
        pub max_message: u64 = size().default("8 MiB").between("64 KiB", "64 MiB"),
        /// TLS towards the server.
        pub tls: Tls = flat(),
    }
    check(at) {
        must_be_built(at, "redis", cfg!(feature = "redis"));
        at.needs("user", "password");
    }
}

fn server(text: &str) -> Result<Server, Flaw> {
    urls::server(text, &Schemes { encrypted: ("rediss", 6379), plain: ("redis", 6379) })
}
