//! What the credentials of a configuration are recognised by.

use crate::{
    credentials::{FingerprintKey, Parts},
    error::Error,
    settings::{Linxo, Passwords, Users},
    transport::read_file,
};
use base::secret::Secret;

/// Everything that a token depends on besides the user.
///
/// # Errors
/// [`Error::Build`] when a client certificate cannot be read.
pub(super) fn of_all_users(settings: &Linxo, key: &FingerprintKey) -> Result<Parts, Error> {
    let secret = |secret: &Option<Secret>| secret.clone().unwrap_or_default();
    let mut parts = key.parts();
    for part in [&settings.api, &settings.auth, &settings.scope, &settings.connection_parameter] {
        parts.add(part.as_bytes());
    }
    parts.add(settings.client_id.as_deref().unwrap_or_default().as_bytes());
    parts.add(settings.provider.as_deref().unwrap_or_default().as_bytes());
    parts.add(format!("{:?} {:?}", settings.token_body, settings.version).as_bytes());
    match &settings.users {
        Users::Client(_) => {
            parts.add(b"client");
            parts.add(secret(&settings.client_secret).expose().as_bytes());
        }
        Users::Password(passwords) => {
            parts.add(if matches!(passwords, Passwords::Derived { .. }) { b"derived" } else { b"table" });
            parts.add(secret(&settings.client_secret).expose().as_bytes());
        }
        Users::Static(fixed) => {
            parts.add(b"static");
            parts.add(fixed.token.expose().as_bytes());
        }
        Users::Endpoint(endpoint) => {
            parts.add(b"endpoint");
            parts.add(endpoint.url.as_bytes());
            parts.add(secret(&endpoint.bearer).expose().as_bytes());
            for file in endpoint.identity().into_iter().flat_map(|(certificate, key)| [certificate, key]) {
                parts.add(&read_file(file)?);
            }
        }
    }
    Ok(parts)
}
