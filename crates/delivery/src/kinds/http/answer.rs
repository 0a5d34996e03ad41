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
    let hint = if status.is_redirection() { "; redirects are not followed, correct the sink's url" } else { "" };
    // `Display` of a status holds the registered phrase, never what the endpoint wrote.
    Err(Failure { kind, reason: format!("the endpoint answered {}{hint}", known(status)) })
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

/// `404 Not Found`; the number alone where the status has no registered phrase.
fn known(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(phrase) => format!("{} {phrase}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
