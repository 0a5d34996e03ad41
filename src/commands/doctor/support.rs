//! What the vendor's support is to be told, and asked.

use super::report::Section;
use crate::config::{ClientMode, Config};
use url::Url;

/// What stands for the path secret.
const MASK: &str = "********";

/// What Linxo needs to know, and what only Linxo knows.
pub(super) fn told(config: &Config, url: Option<&Url>, chain: &[String], reveal: bool) -> Section {
    let mut section = Section::new("For Linxo's support");
    section.note(format_args!("URL to register: {}", registered(config, url, reveal)));
    if !reveal && !config.sender.path_secrets.is_empty() {
        section.note("its last segment is secret: --reveal prints it. Give it by a safe way, and never in a ticket");
    }
    for (index, one) in chain.iter().enumerate() {
        section.note(format_args!("certificate {} of the chain: {one}", index + 1));
    }
    section.note(format_args!("callers are authenticated by: {}", config.authentication()));
    match config.tls.clients.mode {
        ClientMode::Required => section.note(
            "client certificate: required, of an authority that we are still to be sure of: which one signs yours?",
        ),
        ClientMode::Observe => {
            section.note("client certificate: wanted and not yet required: which authority signs yours?");
        }
        ClientMode::Off => {}
    }
    if config.sender.networks.is_selective() {
        section.note(format_args!("networks that are let in: {}", config.sender.networks));
    }
    for question in [
        "to ask: from which addresses do you call, and how are we told when they change?",
        "to ask: do you show a client certificate, of which authority, with which names, and when is it renewed?",
        "to ask: how often, and for how long, do you repeat a call that was answered 503 or not at all?",
        "to ask: which Content-Type do you send, and from how many accounts on do you leave accounts out?",
    ] {
        section.note(question);
    }
    section
}

/// The URL as Linxo should have it. The path secret is masked unless it is to be revealed.
fn registered(config: &Config, url: Option<&Url>, reveal: bool) -> String {
    let origin = url.map_or_else(
        || format!("https://YOUR-NAME:{}", config.listener.address().port()),
        |url| format!("https://{}", base::reach::host(url)),
    );
    let path = config.listener.path.trim_end_matches('/');
    match config.sender.path_secrets.first() {
        None => format!("{origin}{path}"),
        Some(secret) => format!("{origin}{path}/{}", if reveal { secret.expose() } else { MASK }),
    }
}

/// Whether the given URL is one that the service answers on.
pub(super) fn of_url(section: &mut Section, config: &Config, url: &Url) {
    if url.scheme() != "https" {
        section.error("the URL does not begin with https://", "register one that does: the listener speaks TLS alone");
    }
    let path = url.path().trim_end_matches('/');
    let ours = config.listener.path.trim_end_matches('/');
    let is_ours = match config.sender.path_secrets.as_slice() {
        [] => path == ours,
        secrets => secrets
            .iter()
            .any(|secret| path.strip_prefix(ours).is_some_and(|rest| rest == format!("/{}", secret.expose()))),
    };
    // A report can be pasted into a ticket without the secret, and so the command can be typed without it.
    let is_bare = path == ours || path.is_empty();
    if is_ours {
        section.ok("the path of the URL is the one that the service answers on");
    } else if is_bare {
        section.note("the URL was given without the secret of its path, which was not compared");
    } else {
        section.error(
            "the path of the URL is not the one that the service answers on: Linxo would be answered 404",
            "register listener.path, with the path secret as its last segment where there is one",
        );
    }
}
