//! What the endpoint's answer means (the table in `docs/delivery.md`), by its status and `Retry-After` alone.

use crate::sink::{Failure, FailureKind};
use base::{clock, retry_after};
use http::StatusCode;
use reqwest::Response;
use std::time::Duration;

/// Bytes of an answer's body that are read, so that the connection can be used again.
const DRAINED: usize = 64 * 1024;
/// Time for reading them.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What the endpoint's answer means.
pub(super) fn judge(response: &Response) -> Result<(), Failure> {
    let status = response.status();
    let asked = || retry_after::from_headers(response.headers(), clock::now());
    let kind = match status {
        _ if status.is_success() => return Ok(()),
        StatusCode::GONE => FailureKind::Gone,
        StatusCode::TOO_MANY_REQUESTS => FailureKind::Busy { after: asked() },
        StatusCode::SERVICE_UNAVAILABLE => FailureKind::Transient { after: asked() },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => FailureKind::Transient { after: None },
        _ if status.is_server_error() => FailureKind::Transient { after: None },
        _ => FailureKind::Refused { status: Some(status.as_u16()) },
    };
    let reason = format!("the endpoint answered {}{}", known(status), hint(status));
    Err(Failure { status: Some(status.as_u16()), ..Failure::new(kind, reason) })
}

/// What a person can do where the status says it.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            "; the event is too large for it: raise its limit on the size of bodies, then replay the entry"
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "; the head of the request, with the attributes of the event, is too large for it: raise its limit on the size \
             of heads, then replay the entry"
        }
        StatusCode::URI_TOO_LONG => {
            "; the sink's url is too long for it: shorten the url, or raise the endpoint's limit"
        }
        _ if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
            "; redirects are not followed, correct the sink's url"
        }
        _ => "",
    }
}

/// Reads a small rest of the answer, so that the connection can be used again; whatever happens here, the answer stands.
pub(super) async fn drain(mut response: Response) {
    let read = async {
        let mut left = DRAINED;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // An endless body costs at most this; the connection is then closed instead of kept.
    tokio::time::timeout(DRAIN_TIME, read).await.ok();
}

/// `404 Not Found`, with the registered phrase and never what the endpoint wrote; the number alone where there is none.
fn known(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(phrase) => format!("{} {phrase}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
