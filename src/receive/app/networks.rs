//! The layer that keeps out callers from other networks, whatever they ask for.

use super::asked::Asked;
use crate::receive::problem::Refusal;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{Either, Ready, ready};
use http::Request;
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tower::Service;

/// Passes on the requests from `sender.networks`, where there are any.
#[derive(Clone, Debug)]
pub(in crate::receive) struct Networks<S> {
    inner: S,
}

impl<S> Networks<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Networks<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_allowed = request.extensions().get::<Asked>().is_some_and(|asked| {
            let networks = &asked.sender.networks;
            networks.is_empty() || networks.contains(asked.caller.peer.ip())
        });
        if is_allowed {
            Either::Left(self.inner.call(request))
        } else {
            Either::Right(ready(Ok(Refusal::Network.into_response())))
        }
    }
}
