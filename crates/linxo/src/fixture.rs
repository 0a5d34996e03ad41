//! What several tests need: settings with the defaults of the service, figures, their text.

use crate::{
    credentials::FingerprintKey,
    figures::Figures,
    settings::{ApiVersion, Linxo, Reread, TokenBody, Users},
};
use base::secret::Secret;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::time::Duration;

/// What stands for every client secret.
pub(crate) const CLIENT_SECRET: &str = "CANARY_SECRET";

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// Settings for both servers at one origin.
pub(crate) fn settings(origin: &str, users: Users) -> Linxo {
    Linxo {
        api: format!("{origin}/v2.1"),
        auth: origin.to_owned(),
        version: ApiVersion::V2_1,
        client_id: Some("demo".to_owned()),
        client_secret: Some(secret(CLIENT_SECRET)),
        token_body: TokenBody::Json,
        scope: "accounts_read".to_owned(),
        provider: None,
        connection_parameter: "connection_id".to_owned(),
        page_limit: 100,
        page_concurrency: 8,
        reread: Reread::Doubt,
        max_requests: 16,
        rate: None,
        max_accounts: 200_000,
        max_size: 1 << 30,
        timeout: Duration::from_secs(10),
        list_timeout: Duration::from_hours(1),
        retry_for: Duration::from_hours(72),
        settle_for: Duration::from_mins(10),
        authorities: Vec::new(),
        users,
    }
}

/// Figures that nobody reads.
pub(crate) fn figures() -> Figures {
    Figures::new(&mut Registry::default())
}

pub(crate) fn key() -> FingerprintKey {
    FingerprintKey::new([7; 32])
}

/// The text of `/metrics`.
pub(crate) fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}
