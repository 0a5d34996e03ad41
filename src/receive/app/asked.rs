//! What a request carries from layer to handler, and a refusal from handler to layer.

use crate::receive::{
    caller::Caller,
    problem::{Refusal, RequestId},
    settings,
};
use axum::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::request::Parts;
use std::{sync::Arc, time::Instant};

/// What is known of a request before it is looked at; an extension of every request, made by `Answers`.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) caller: Arc<Caller>,
    /// `[sender]` as it was when the request came: one request is judged by one set.
    pub(super) sender: Arc<settings::Sender>,
    /// When its head was there.
    pub(super) since: Instant,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        // Without the layer `Answers` there is none.
        parts.extensions.get().cloned().ok_or(Refusal::Internal)
    }
}

/// A refused request, and what of its body was seen; an extension of the response, for `Answers`.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// Bytes of the body that came; `None` where none was read.
    pub(super) size: Option<u64>,
    /// The body as far as it was read.
    pub(super) body: Bytes,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, size: None, body: Bytes::new() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.refusal.status();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Refused::from(self).into_response()
    }
}
