//! Requests to the vendor's token endpoint (`docs/linxo-api.md` section 2).

use super::refusal;
use crate::{
    error::Error,
    settings::{Linxo, TokenBody},
    transport::Transport,
    users::Login,
};
use base::secret::Secret;
use reqwest::header;
use serde::Serialize;
use zeroize::Zeroizing;

/// How the client asks for tokens.
#[derive(Debug)]
pub(super) struct Grants {
    url: String,
    body: TokenBody,
    client_id: String,
    client_secret: Secret,
    scope: String,
    provider: Option<String>,
}

#[derive(Serialize)]
struct Grant<'a> {
    #[serde(rename = "grant_type")]
    flow: &'static str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

impl Grants {
    /// Prepares requests with these settings.
    pub(super) fn new(settings: &Linxo) -> Self {
        Self {
            url: format!("{}/token", settings.auth),
            body: settings.token_body,
            client_id: settings.client_id.clone().unwrap_or_default(),
            client_secret: settings.client_secret.clone().unwrap_or_default(),
            scope: settings.scope.clone(),
            provider: settings.provider.clone(),
        }
    }

    /// Asks for a user's token, or for the client's own where there is no login, for work of this connection; returns the answer.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        who: &str,
        login: Option<&Login>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let in_body = self.body != TokenBody::Basic;
        let grant = Grant {
            flow: if login.is_some() { "password" } else { "client_credentials" },
            scope: &self.scope,
            provider: self.provider.as_deref(),
            client_id: in_body.then_some(&self.client_id),
            client_secret: in_body.then(|| self.client_secret.expose()),
            username: login.map(|login| login.username.as_str()),
            password: login.map(|login| login.password.expose()),
        };
        let request = transport.http().post(&self.url).header(header::ACCEPT, "application/json");
        let request = match self.body {
            TokenBody::Json => request.json(&grant),
            TokenBody::Form => request.form(&grant),
            TokenBody::Basic => {
                // RFC 6749 section 2.3.1: both are form-encoded before they are joined.
                let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let secret = Zeroizing::new(encoded(self.client_secret.expose()));
                request.basic_auth(encoded(&self.client_id), Some(secret.as_str())).form(&grant)
            }
        };
        let mut secrets = vec![self.client_secret.expose()];
        secrets.extend(login.iter().flat_map(|login| [login.username.as_str(), login.password.expose()]));
        transport.call(who, request, &secrets).await.map_err(refusal::of_token)
    }
}
