//! What a sink on an HTTP endpoint is told.

use base::secret::Secret;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use settings::{At, Flaw, Read, authorities, duration, flag, secrets, section, url, urls};
use std::{path::PathBuf, time::Duration};

/// What `listen` signs with unless it is given a secret. It stands in the documentation, so everybody knows it.
pub const KNOWN_SECRET: &str = "whsec_bGlueG8td2ViaG9vayBsaXN0ZW4sIG5vdGhpbmcgc2VjcmV0";

section! {
    /// `[[sink]]` with type "http".
    pub struct Settings {
        /// Where completed events are posted: `https://`, or `http://` to this machine.
        pub url: String = url(destination).example("\"https://app.internal/linxo\""),
        /// Whether deliveries are signed, so that the endpoint can tell them from forged ones. Where it is true, `secret` is
        /// required.
        pub signed: bool = flag().default("true"),
        /// Standard Webhooks signing secret: `whsec_` and the base64 of 24 to 64 bytes. During a change give a list, the newest
        /// first. Required unless `signed` is false.
        pub secrets("secret"): Vec<Secret> = secrets(signing_secret).example("{ file = \"secrets/app\" }"),
        /// Longest time for one attempt, from connecting to the head of the answer.
        pub timeout: Duration = duration().default("10s").between("100ms", "10m"),
        /// PEM files of extra root certificates.
        pub authorities: Vec<PathBuf> = authorities(),
    }
    check(at) {
        signed_or_said(at, signed, &secrets);
    }
}

/// Nobody leaves deliveries unsigned by mistake: a secret that is missing is an error, unless it is said that there is none.
fn signed_or_said(at: &mut At<'_, '_>, signed: Read<bool>, secrets: &Read<Vec<Secret>>) {
    let (Ok(is_signed), Ok(secrets)) = (signed, secrets) else { return };
    if is_signed && secrets.is_empty() {
        let hint = "write secret = { file = \"secrets/app\" }, a file made with `echo whsec_$(openssl rand -base64 32)`; or \
                    write signed = false if the endpoint knows the caller by other means";
        at.flawed("secret", Flaw::new("is required, because deliveries are signed", hint));
    } else if !is_signed && !secrets.is_empty() {
        let hint = "remove `signed` to sign deliveries, or remove `secret` to send them unsigned";
        at.flawed("signed", Flaw::new("contradicts the `secret` beside it", hint));
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
