//! What a sink on PostgreSQL is told.

use crate::{built::must_be_built, tls::Tls};
use base::secret::Secret;
use settings::{
    At, Flaw, Read, duration, flag, flat, number,
    postgres::{self, Server},
    secret, section, size, text,
};
use std::time::Duration;

section! {
    /// `[[sink]]` with type "postgres".
    pub struct Settings {
        /// The database: `postgres://user@host/database`. `sslmode` behind a `?` is verify-full where it is not given, and may be
        /// disable on this machine; `schema` is public where it is not given.
        pub server("url"): Server = text(Server::parse).example("\"postgres://linxo@db.internal/app\""),
        /// Password of that user.
        pub password: Option<Secret> = secret(|_| Ok(())).example("{ file = \"secrets/app-database\" }").optional(),
        /// Table with one row for each event. `linxo-webhook sink init NAME` makes it.
        pub table: String = text(postgres::name).default("linxo_event"),
        /// Whether there is one row for each account too, with its latest state.
        pub accounts: bool = flag().default("false"),
        /// Table with the rows of accounts, made by the same command.
        pub accounts_table: String = text(postgres::name).default("linxo_account"),
        /// Longest time for one attempt, from connecting to the commit.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// Connections to the server at most.
        pub connections: usize = number().default("4").between("1", "100"),
        /// Largest event that is stored. It stands in memory while it is sent.
        pub max_event: u64 = size().default("64 MiB").between("64 KiB", "512 MiB"),
        /// TLS towards the server.
        pub tls: Tls = flat(),
    }
    check(at) {
        must_be_built(at, "postgres", cfg!(feature = "postgres"));
        tables_differ(at, accounts, &table, &accounts_table);
        only_over_tls(at, &server);
    }
}

fn tables_differ(at: &mut At<'_, '_>, accounts: Read<bool>, table: &Read<String>, accounts_table: &Read<String>) {
    if accounts == Ok(true) && table.is_ok() && table == accounts_table {
        let flaw = Flaw::new("is the table of the events", "give the accounts a table of their own");
        at.flawed("accounts_table", flaw);
    }
}

fn only_over_tls(at: &mut At<'_, '_>, server: &Read<Server>) {
    if server.as_ref().is_ok_and(|server| !server.is_encrypted()) {
        for name in ["authorities", "certificate"] {
            if at.is_given(name) {
                let hint = "remove it, or write sslmode=verify-full into the url, with the name of a host";
                at.flawed(name, Flaw::new("is for an encrypted connection, and the url asks for none", hint));
            }
        }
    }
}
