//! A request's body on loan: what the routes leave unread comes back to the layer that answers.
//!
//! The layer needs the rest, because it decides what becomes of it: it is read on, held for a moment, or given up
//! (`answers`). An extractor that refuses drops the request, and with it the body.

use base::sync::lock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

/// Where a body comes back to.
#[derive(Clone, Debug, Default)]
pub(super) struct Lender(Arc<Mutex<Option<Incoming>>>);

impl Lender {
    /// Lends a body to the routes.
    pub(super) fn lend(&self, body: Incoming) -> Lent {
        Lent { body: Some(body), lender: self.clone() }
    }

    /// The rest of the body, once it was dropped before its end.
    pub(super) fn take_rest(&self) -> Option<Incoming> {
        lock(&self.0).take()
    }
}

/// The body, as the routes see it.
#[derive(Debug)]
pub(super) struct Lent {
    /// `None` only while it is being dropped.
    body: Option<Incoming>,
    lender: Lender,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *lock(&self.lender.0) = Some(body);
        }
    }
}
