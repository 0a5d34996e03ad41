//! What a sink on an HTTP endpoint is told.

use base::secret::Secret;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header};
use settings::{
    At, Flaw, Given, Pair, Read, authorities, certificate, duration, flag, header_safe, pairs, private_file, secret,
    secrets, section, url, urls,
};
use std::{collections::HashSet, path::PathBuf, time::Duration};

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
        /// Bearer token that the endpoint asks for.
        pub bearer: Option<Secret> = secret(header_safe).example("{ file = \"secrets/app-token\" }").optional(),
        /// Headers that every request has besides, each a text or a secret. They stand in the file, not in the environment.
        pub headers: Vec<Pair> = pairs(header).example("{ \"X-Team\" = \"bank\", \"X-Api-Key\" = { file = \"secrets/app-key\" } }"),
        /// PEM file of a client certificate for the endpoint, with the chain above it. Needs `key`.
        pub certificate: Option<PathBuf> = certificate().example("\"certs/app-client.pem\"").optional(),
        /// PEM file of the private key of that certificate.
        pub key: Option<PathBuf> = private_file().example("\"certs/app-client.key\"").optional(),
        /// PEM files of extra root certificates.
        pub authorities: Vec<PathBuf> = authorities(),
        /// Proxy that connections to the endpoint go through, encrypted up to the endpoint. Proxies that the environment
        /// names (HTTPS_PROXY) are not used.
        pub proxy: Option<String> = ::settings::url(urls::proxy).example("\"http://proxy.internal:3128\"").optional(),
        /// User name and password for the proxy, with a colon between them.
        pub proxy_credentials: Option<Secret> = secret(credentials).example("{ file = \"secrets/proxy\" }").optional(),
    }
    check(at) {
        signed_or_said(at, signed, &secrets);
        at.together("certificate", "key");
        only_over_tls(at, &url);
        one_authorization(at, &headers);
        each_once(at, &headers);
        credentials_stay_secret(at, &proxy);
    }
}

/// Headers of ours: what they say must be true.
const OURS: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];
/// The same, by how they begin.
const OUR_FAMILIES: [&str; 5] = ["ce-", "webhook-", "proxy-", "traceparent", "tracestate"];
/// Parts of a header's name which say that its value keeps somebody out.
const TELLING: [&str; 6] = ["auth", "cookie", "key", "pass", "secret", "token"];

/// A header that may stand in each request.
fn header(pair: &Pair) -> Result<(), Flaw> {
    let name = HeaderName::from_bytes(pair.name.as_bytes())
        .map_err(|_says_no_more| Flaw::new("is not the name of a header", "write a name such as \"X-Team\""))?;
    if OURS.contains(&name) || OUR_FAMILIES.iter().any(|start| name.as_str().starts_with(start)) {
        return Err(Flaw::new("is a header that deliveries have anyway", "remove it, or take another name"));
    }
    if pair.value.expose().is_empty() || HeaderValue::from_str(pair.value.expose()).is_err() {
        return Err(Flaw::new("has a value that no header can have", "write visible characters of ASCII, and spaces"));
    }
    if matches!(pair.value, Given::Text(_)) && TELLING.iter().any(|part| name.as_str().contains(part)) {
        let hint = "write its value as { file = \"...\" } or { env = \"...\" }";
        return Err(Flaw::new("seems to be a secret, and must not be written into the configuration itself", hint));
    }
    Ok(())
}

fn credentials(text: &str) -> Result<(), Flaw> {
    header_safe(text)?;
    match text.split_once(':') {
        Some((user, _)) if !user.is_empty() => Ok(()),
        _ => Err(Flaw::new("has no colon between user name and password", "write user:password into it")),
    }
}

/// What has no effect without TLS is a mistake: whoever set it relies on it.
fn only_over_tls(at: &mut At<'_, '_>, url: &Read<String>) {
    if !url.as_ref().is_ok_and(|url| url.starts_with("http://")) {
        return;
    }
    for name in ["certificate", "proxy"] {
        if at.is_given(name) {
            let hint = "remove it, or write an https:// url: http:// never leaves this machine, and is not encrypted";
            at.flawed(name, Flaw::new("is of no use with an http:// url", hint));
        }
    }
}

/// Names of headers are the same in capitals and in small letters (RFC 9110 section 5.1).
fn each_once(at: &mut At<'_, '_>, headers: &Read<Vec<Pair>>) {
    let Ok(headers) = headers else { return };
    let mut names = HashSet::new();
    if !headers.iter().all(|pair| names.insert(pair.name.to_ascii_lowercase())) {
        at.flawed(
            "headers",
            Flaw::new("has one header twice, in capitals and in small letters", "keep one of the two"),
        );
    }
}

fn one_authorization(at: &mut At<'_, '_>, headers: &Read<Vec<Pair>>) {
    let is_given = |pair: &Pair| pair.name.eq_ignore_ascii_case("authorization");
    if at.is_given("bearer") && headers.as_ref().is_ok_and(|headers| headers.iter().any(is_given)) {
        let hint = "remove it, or remove Authorization from `headers`";
        at.flawed("bearer", Flaw::new("contradicts the header Authorization", hint));
    }
}

/// Credentials go to the proxy before anything is encrypted.
fn credentials_stay_secret(at: &mut At<'_, '_>, proxy: &Read<Option<String>>) {
    if !at.is_given("proxy_credentials") {
        return;
    }
    match proxy {
        Ok(None) => {
            at.flawed("proxy_credentials", Flaw::new("is for a proxy, and there is none", "remove it, or set `proxy`"));
        }
        Ok(Some(proxy)) if proxy.starts_with("http://") => {
            let key = at.title("proxy_credentials");
            at.warn(format!(
                "{key} travels unencrypted to the proxy: where it offers TLS, write proxy = \"https://...\""
            ));
        }
        _ => {}
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
