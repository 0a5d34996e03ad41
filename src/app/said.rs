//! What is said of a configuration when the service starts with it.

use crate::{config::Config, supervisor::Sockets};
use std::net::SocketAddr;

/// Says what should be known of a configuration. What holds of its address is not said where a socket stands for it.
pub(super) fn at_first(config: &Config, sockets: &Sockets) {
    let unused = sockets.public.as_ref().and_then(|_| config.exposure());
    for warning in config.warnings.iter().filter(|warning| Some(*warning) != unused.as_ref()) {
        tracing::warn!(code = "config_warning", "{warning}");
    }
    // Of the certificates of `[tls]` what is loaded says it.
    for problem in config.ended.iter().filter(|problem| !problem.key.starts_with("tls.")) {
        tracing::error!(code = "certificate_ended", "{}", problem.to_string().trim_start());
    }
}

/// Says what an operator should know of the configuration in use.
pub(super) fn of_what_holds(config: &Config) {
    tracing::info!(code = "authentication", authentication = config.authentication(), "how callers are authenticated");
    if config.linxo.is_none() {
        tracing::warn!(
            code = "linxo_section_missing",
            "there is no [linxo] section: events that leave out their accounts are parked"
        );
    }
}

/// Says that a certificate was made, where there was none.
pub(super) fn of_a_first_start(config: &Config, is_made: bool) {
    if is_made {
        tracing::warn!(
            code = "localhost_certificate_made",
            path = %config.tls.certificate.display(),
            "made a certificate for localhost, because there was none: no vendor trusts it, give the service a real one"
        );
    }
}

/// Says where health and figures are.
pub(super) fn of_the_admin_listener(address: Option<SocketAddr>) {
    if let Some(address) = address {
        tracing::info!(code = "admin_listening", %address, "admin listening");
    }
}
