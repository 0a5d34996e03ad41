//! The integrator's own endpoint, which gives out users' tokens.

use super::{refusal, token::Token};
use crate::{
    error::{Error, Missing},
    segment::encoded,
    transport::Transport,
    users::USER_ID,
};
use event::UserId;
use reqwest::header;
use zeroize::Zeroizing;

/// The endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) transport: Transport,
    /// With [`USER_ID`] in it.
    pub(super) url: String,
    pub(super) bearer: Option<Token>,
}

impl Endpoint {
    /// Asks for a user's token, for work of this connection; returns the answer.
    pub(super) async fn send(&self, user: &UserId, who: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let user = encoded(user.as_str()).ok_or(Error::Unaskable("the user's id cannot stand in a URL"))?;
        let url = self.url.replace(USER_ID, &user);
        let mut request = self.transport.http().get(url).header(header::ACCEPT, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, bearer.header());
        }
        let secrets: Vec<&str> = self.bearer.iter().map(Token::expose).collect();
        self.transport.call(who, request, &secrets).await.map_err(|error| match error {
            Error::Status { status: 404, .. } => Error::NoCredentials(Missing::Endpoint),
            other => refusal::of_token(other),
        })
    }
}
