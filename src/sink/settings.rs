//! What the sinks are told: `[[sink]]`. Each kind of sink declares its own keys in its own folder, and stands in the
//! list here.

pub use super::{file::settings::File, http::settings::Http, stdout::settings::Stdout};

use settings::{Flaw, duration, flat, section, text, variants};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

section! {
    /// Where completed events go: one `[[sink]]` for each destination. Each gets every event, in order for each
    /// connection. Without any `[[sink]]`, events go to standard output, as here.
    pub struct Sink {
        /// Unique name: letters a to z, digits, `-` and `_`. It is kept beside each entry: a sink that is renamed is a
        /// new one.
        pub name: String = text(sink_name).example("\"app\""),
        /// How long a delivery is tried again after its first failed attempt. Then it is parked.
        pub retry_for: Duration = duration().default("3d").between("1s", "365d"),
        /// What kind of destination, with its own settings.
        pub kind: SinkKind = flat(),
    }
}

variants! {
    /// Kind of destination.
    pub enum SinkKind by "type" {
        /// One JSON document a line on standard output.
        Stdout(Stdout) = "stdout",
        /// One JSON document a line, appended to a file and synced before the entry is settled.
        File(File) = "file",
        /// A POST of each completed event.
        Http(Http) = "http",
    }
    later = ["postgres", "nats", "amqp", "kafka", "redis"]
}

impl Sink {
    /// The files that it is opened with, secrets and what it writes apart.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let authorities = if let SinkKind::Http(http) = &self.kind { http.authorities.as_slice() } else { &[] };
        authorities.iter().map(PathBuf::as_path)
    }
}

/// Names become metric labels and are typed on command lines.
fn sink_name(text: &str) -> Result<String, Flaw> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if text.len() <= 64 && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(Flaw::new("is not a name", "use 1 to 64 of: a to z, digits, `-` and `_`"))
    }
}
