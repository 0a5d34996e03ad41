//! The configuration that takes effect, laid out as the file is.
//!
//! Made from the typed configuration and not from what was read, so that it shows what the program will do. Without
//! secrets, what it writes can be loaded again and gives the same; a test holds that.

use super::{
    ApiVersion, ClientMode, Config, Linxo, LogFormat, Networks, Passwords, Reread, Store, TlsVersion, TokenBody, Users,
    units::{show_duration, show_size},
};
use base::secret::Secret;
use delivery::{
    Kind,
    kinds::{file, http},
};
use std::{fmt::Display, num::NonZeroU32, path::Path, time::Duration};

/// What stands for a secret.
const HIDDEN: &str = "\"***\"";

pub(super) fn write(config: &Config) -> String {
    let mut page = Page::default();

    let listener = &config.listener;
    page.section("[listener]");
    page.text("address", listener.address);
    page.text("path", &listener.path);
    page.size("max_body", listener.max_body);
    page.size("max_head", listener.max_head.into());
    page.plain("max_headers", listener.max_headers);
    page.plain("max_connections", listener.max_connections);
    page.plain("max_connections_per_address", listener.max_connections_per_address);
    page.plain("max_handshakes", listener.max_handshakes);
    page.plain("max_requests", listener.max_requests);
    page.size("body_memory", listener.body_memory);
    page.plain("http2_streams", listener.http2_streams);
    page.duration("handshake_timeout", listener.handshake_timeout);
    page.duration("header_timeout", listener.header_timeout);
    page.duration("body_timeout", listener.body_timeout);
    page.duration("idle_timeout", listener.idle_timeout);
    page.duration("drain_timeout", listener.drain_timeout);
    page.text("proxy_protocol", if listener.proxies.is_some() { "required" } else { "off" });
    page.networks("proxy_networks", listener.proxies.as_ref());

    page.section("[tls]");
    page.text("certificate", config.tls.certificate.display());
    page.text("key", config.tls.key.display());
    page.text(
        "minimum_version",
        match config.tls.minimum_version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        },
    );

    page.section("[tls.clients]");
    page.text(
        "mode",
        match config.tls.clients.mode {
            ClientMode::Off => "off",
            ClientMode::Observe => "observe",
            ClientMode::Required => "required",
        },
    );
    page.paths("authorities", &config.tls.clients.authorities);
    page.paths("revocations", &config.tls.clients.revocations);
    page.texts("names", &config.tls.clients.names);
    page.texts("fingerprints", &config.tls.clients.fingerprints);

    page.section("[sender]");
    page.secrets("path_secret", &config.sender.path_secrets);
    page.networks("networks", Some(&config.sender.networks));
    page.text("confirm", if config.sender.confirm { "api" } else { "off" });

    let Store::Sqlite(path) = &config.inbox.store;
    page.section("[inbox]");
    page.text("url", format_args!("sqlite:{}", path.display()));
    page.duration("retention", config.inbox.retention);
    page.plain("max_waiting", config.inbox.max_waiting);
    page.size("min_free_disk", config.inbox.min_free_disk);
    page.plain("refused", config.inbox.refused);

    page.section("[worker]");
    page.plain("concurrency", config.worker.concurrency);

    match &config.linxo {
        Some(linxo) => page.linxo(linxo),
        None => page.remark("[linxo] is not set: truncated events are parked"),
    }
    for sink in &config.sinks {
        page.sink(sink);
    }

    page.section("[admin]");
    match &config.admin {
        Some(admin) => {
            page.text("address", admin.address);
            page.secrets("token", admin.token.as_slice());
        }
        None => page.text("address", "off"),
    }

    page.section("[log]");
    page.text(
        "format",
        match config.log.format {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        },
    );
    page.text("level", config.log.level.as_str().to_lowercase());
    page.0
}

/// Lines of the file, in the making.
#[derive(Default)]
struct Page(String);

impl Page {
    fn linxo(&mut self, linxo: &Linxo) {
        self.section("[linxo]");
        self.text("api", &linxo.api);
        self.text("auth", &linxo.auth);
        self.text(
            "version",
            match linxo.version {
                ApiVersion::V2_1 => "v2.1",
                ApiVersion::V3 => "v3",
            },
        );
        if let Some(client_id) = &linxo.client_id {
            self.text("client_id", client_id);
        }
        self.secrets("client_secret", linxo.client_secret.as_slice());
        self.text(
            "token_body",
            match linxo.token_body {
                TokenBody::Json => "json",
                TokenBody::Form => "form",
                TokenBody::Basic => "basic",
            },
        );
        self.text("scope", &linxo.scope);
        if let Some(provider) = &linxo.provider {
            self.text("provider", provider);
        }
        self.text("connection_parameter", &linxo.connection_parameter);
        self.plain("page_limit", linxo.page_limit);
        self.plain("page_concurrency", linxo.page_concurrency);
        self.text(
            "reread",
            match linxo.reread {
                Reread::Doubt => "doubt",
                Reread::Always => "always",
            },
        );
        self.plain("max_requests", linxo.max_requests);
        self.plain("rate", linxo.rate.map_or(0, NonZeroU32::get));
        self.plain("max_accounts", linxo.max_accounts);
        self.size("max_size", linxo.max_size);
        self.duration("timeout", linxo.timeout);
        self.duration("list_timeout", linxo.list_timeout);
        self.duration("retry_for", linxo.retry_for);
        self.paths("authorities", &linxo.authorities);

        self.section("[linxo.users]");
        match &linxo.users {
            Users::Client => self.text("mode", "client"),
            Users::Password(Passwords::Table(path)) => {
                self.text("mode", "password");
                self.text("table", path.display());
            }
            Users::Password(Passwords::Derived { username, secret }) => {
                self.text("mode", "password");
                self.text("username", username);
                self.secrets("password_secret", std::slice::from_ref(secret));
            }
            Users::Endpoint(endpoint) => {
                self.text("mode", "endpoint");
                self.url("url", &endpoint.url);
                self.secrets("bearer", endpoint.bearer.as_slice());
                if let Some((certificate, key)) = &endpoint.identity {
                    self.text("certificate", certificate.display());
                    self.text("key", key.display());
                }
                self.paths("authorities", &endpoint.authorities);
            }
            Users::Static(token) => {
                self.text("mode", "static");
                self.secrets("token", std::slice::from_ref(token));
            }
        }
    }

    fn sink(&mut self, sink: &delivery::Settings) {
        self.section("[[sink]]");
        self.text("name", &sink.name);
        match &sink.kind {
            Kind::Stdout(_) => self.text("type", "stdout"),
            Kind::File(file::Settings { path }) => {
                self.text("type", "file");
                self.text("path", path.display());
            }
            Kind::Http(http::Settings { url, secrets, timeout, authorities }) => {
                self.text("type", "http");
                self.url("url", url);
                self.secrets("secret", secrets);
                self.duration("timeout", *timeout);
                self.paths("authorities", authorities);
            }
        }
        self.duration("retry_for", sink.retry_for);
    }

    fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(title);
        self.0.push('\n');
    }

    fn remark(&mut self, text: &str) {
        self.0.push_str("\n# ");
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.0.extend([key, " = ", &value.to_string(), "\n"]);
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.plain(key, quoted(&value.to_string()));
    }

    /// A query may hold a token.
    fn url(&mut self, key: &str, url: &str) {
        match url.split_once('?') {
            Some((start, _)) => self.text(key, format_args!("{start}?***")),
            None => self.text(key, url),
        }
    }

    fn duration(&mut self, key: &str, value: Duration) {
        self.text(key, show_duration(value));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.text(key, show_size(bytes));
    }

    fn paths(&mut self, key: &str, paths: &[impl AsRef<Path>]) {
        let paths: Vec<_> = paths.iter().map(|path| path.as_ref().display().to_string()).collect();
        self.texts(key, &paths);
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        let list: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        self.plain(key, format_args!("[{}]", list.join(", ")));
    }

    fn networks(&mut self, key: &str, networks: Option<&Networks>) {
        let list: Vec<_> =
            networks.into_iter().flat_map(Networks::iter).map(|network| quoted(&network.to_string())).collect();
        self.plain(key, format_args!("[{}]", list.join(", ")));
    }

    /// Shows how many there are, and nothing of them.
    fn secrets(&mut self, key: &str, secrets: &[Secret]) {
        match secrets {
            [] => {}
            [_] => self.plain(key, HIDDEN),
            several => self.plain(key, format_args!("[{}]", vec![HIDDEN; several.len()].join(", "))),
        }
    }
}

/// A TOML string. Control characters were refused when the value was read.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
