//! What a sink on an HTTP endpoint is told.

use base::secret::Secret;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use settings::{Flaw, certificates, duration, secrets, section, url, urls};
use std::{path::PathBuf, time::Duration};

section! {
    /// `[[sink]]` with type "http".
    pub struct Settings {
        /// Where completed events are posted: `https://`, or `http://` to this machine.
        pub url: String = url(destination).example("\"https://app.internal/linxo\""),
        /// Standard Webhooks signing secret: `whsec_` and the base64 of 24 to 64 bytes. During a change give a list, the newest
        /// first. Without a secret nothing is signed.
        pub secrets("secret"): Vec<Secret> = secrets(signing_secret).example("{ file = \"secrets/app\" }"),
        /// Longest time for one attempt, from connecting to the head of the answer.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// PEM files of extra root certificates.
        pub authorities: Vec<PathBuf> = certificates(),
    }
}

fn destination(text: &str) -> Result<String, Flaw> {
    urls::destination(text).map(Into::into)
}

/// Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes.
fn signing_secret(text: &str) -> Result<(), Flaw> {
    let bytes = text.strip_prefix("whsec_").and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    if bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len())) {
        Ok(())
    } else {
        Err(Flaw::new(
            "is not a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes",
            "make one with `echo whsec_$(openssl rand -base64 32)`",
        ))
    }
}
