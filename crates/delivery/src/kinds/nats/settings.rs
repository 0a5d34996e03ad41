//! What a sink on a NATS server is told.

use crate::{
    built::must_be_built,
    template::{self, Template},
    tls::Tls,
};
use base::secret::Secret;
use settings::{
    At, Flaw, Pair, duration, flat, pairs, secret, section, size, text, texts,
    urls::{self, Schemes, Server},
};
use std::time::Duration;

section! {
    /// `[[sink]]` with type "nats".
    pub struct Settings {
        /// The servers of one cluster, `tls://host:4222`, or `nats://` on this machine. Servers that these tell of are not called.
        pub servers: Vec<Server> = texts(server).example("[\"tls://nats.internal:4222\"]"),
        /// The subject. A JetStream stream must take it. Attributes in braces: {connection}, {user}, {type}, {channel}, {mode},
        /// {completion}, {id}, {merged}.
        pub subject: Template = text(template::subject).default("{type}.{connection}"),
        /// Headers on top of the sink's own; values as in `subject`, or secrets.
        pub headers: Vec<Pair> = pairs(template::extra_header).example("{ \"X-Team\" = \"bank\" }"),
        /// User name, with `password`.
        pub user: Option<String> = text(|text| Ok(text.to_owned())).optional(),
        /// Password of the user.
        pub password: Option<Secret> = secret(|_| Ok(())).optional(),
        /// Token, instead of a user.
        pub token: Option<Secret> = secret(|_| Ok(())).optional(),
        /// Seed of an NKey (`SU...`), instead of a user.
        pub nkey: Option<Secret> = secret(seed).optional(),
        /// Content of a credentials file (`.creds`: a JWT and a seed), instead of a user.
        pub credentials: Option<Secret> = secret(creds).optional(),
        /// Longest wait for the acknowledgement of a message.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// Largest event that is handed over. The server's `max_payload` (1 MB unless it is raised) holds as well.
        pub max_message: u64 = size().default("8 MiB").between("64 KiB", "64 MiB"),
        /// TLS towards the servers.
        pub tls: Tls = flat(),
    }
    check(at) {
        must_be_built(at, "nats", cfg!(feature = "nats"));
        if servers.as_ref().is_ok_and(Vec::is_empty) {
            at.flawed("servers", Flaw::new("is required", "write servers = [\"tls://nats.internal:4222\"]"));
        }
        let given = ["user", "token", "nkey", "credentials"].map(|key| at.is_given(key));
        one_way(at, &given);
        at.needs("user", "password");
        at.needs("password", "user");
    }
}

fn one_way(at: &mut At<'_, '_>, given: &[bool]) {
    if given.iter().filter(|given| **given).count() > 1 {
        let hint = "keep one of `user` with `password`, `token`, `nkey` and `credentials`";
        at.flawed("user", Flaw::new("is one of several ways to log in", hint));
    }
}

fn server(text: &str) -> Result<Server, Flaw> {
    urls::server(text, &Schemes { encrypted: ("tls", 4222), plain: ("nats", 4222) })
}

/// An encoded seed: `S`, the kind of key, and base32 (NATS ADR-14).
fn seed(text: &str) -> Result<(), Flaw> {
    let is_base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    if text.starts_with("SU") && text.len() == 58 && text.bytes().all(is_base32) {
        return Ok(());
    }
    Err(Flaw::new("is not the seed of a user's NKey", "write the line that begins with SU, 58 characters"))
}

fn creds(text: &str) -> Result<(), Flaw> {
    if text.contains("BEGIN NATS USER JWT") && text.contains("BEGIN USER NKEY SEED") {
        return Ok(());
    }
    Err(Flaw::new("is not a credentials file of NATS", "name the file that `nsc generate creds` writes"))
}
