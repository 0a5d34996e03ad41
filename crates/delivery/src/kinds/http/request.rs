//! One request: headers with attributes and signatures, and the body.

use crate::{
    body::{Body, BodyError},
    cloudevent::{header_value, headers as attribute_headers},
    signature::Signer,
    sink::{Delivery, Error, Failure, FailureKind},
};
use base::clock;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::sync::oneshot;

/// The headers of a delivery. Reads the body where it has to be signed.
pub(super) async fn headers(delivery: &Delivery, signer: &Signer) -> Result<HeaderMap, Error> {
    let attributes = &delivery.attributes;
    let mut headers = HeaderMap::with_capacity(22);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(attributes.datacontenttype));
    headers.insert(CONTENT_LENGTH, delivery.body.length().into());
    for (name, value) in attribute_headers(attributes) {
        headers.insert(name, text(&value)?);
    }
    if let Some(trace) = &delivery.trace {
        headers.insert(HeaderName::from_static("traceparent"), text(&trace.traceparent())?);
        if let Some(state) = trace.tracestate() {
            headers.insert(HeaderName::from_static("tracestate"), text(state)?);
        }
    }
    // The receiver checks the signature over what it finds in the header, so the encoded id is the one to sign.
    let id = header_value(attributes.id.as_str());
    headers.insert(HeaderName::from_static("webhook-id"), text(&id)?);
    if !signer.is_empty() {
        let timestamp = clock::now().as_millis() / 1000;
        let mut signing = signer.start(&id, timestamp);
        let mut pieces = delivery.body.open();
        while let Some(piece) = pieces.next().await {
            signing.update(&piece?);
        }
        headers.insert(HeaderName::from_static("webhook-timestamp"), timestamp.into());
        headers.insert(HeaderName::from_static("webhook-signature"), text(&signing.finish())?);
    }
    Ok(headers)
}

/// The request's body, and where the error comes out that ended the body. The client keeps that error to itself, and what
/// it says instead looks like a fault of the endpoint.
pub(super) fn body(body: &Body) -> (reqwest::Body, oneshot::Receiver<BodyError>) {
    let (report, unreadable) = oneshot::channel();
    if let Some(bytes) = body.as_whole() {
        return (bytes.clone().into(), unreadable);
    }
    let mut report = Some(report);
    let pieces = body.open().map_err(move |error| {
        if let Some(report) = report.take() {
            // The delivery may have been dropped meanwhile.
            report.send(error).ok();
        }
        Broken
    });
    (reqwest::Body::wrap_stream(pieces), unreadable)
}

/// Makes the client end the request; the reason is told apart.
#[derive(Debug, thiserror::Error)]
#[error("the body of the delivery could not be read")]
struct Broken;

fn text(value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(value).map_err(|_quotes_nothing| {
        Failure::new(
            FailureKind::Refused { status: None },
            "an attribute of the event cannot be written as an HTTP header".to_owned(),
        )
    })
}
