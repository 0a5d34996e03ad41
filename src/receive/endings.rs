//! Why a connection was ended, where that is a refusal: counted, logged and kept like refused requests.

use super::{
    activity::Overdue,
    caller::Caller,
    ledger::Record,
    problem::Refusal,
    reason::Reason,
    refusals::{Refusals, log_refusal},
};
use http::StatusCode;
use std::error::Error as _;

/// Counts, keeps and logs a caller that was too slow.
pub(super) fn refuse_overdue(refusals: &Refusals, caller: &Caller, why: Overdue) {
    let (reason, status) = match why {
        // The usual end of a kept connection.
        Overdue::Idle => return,
        Overdue::Silent => (Reason::Silent, None),
        Overdue::Head => (Reason::HeadTimeout, Some(Refusal::HeadTimeout.status())),
    };
    refuse_connection(refusals, caller, reason, status);
    log_refusal!(refusals, reason, code = "request_incomplete", peer = %caller.peer, "connection ended: no complete request in time");
}

/// Notes why hyper ended a connection. Its answers to heads that it cannot read (400, 414, 431) are its own, without a body.
pub(super) fn note_end(refusals: &Refusals, caller: &Caller, error: &hyper::Error) {
    // What another's GOAWAY says is not repeated: it may be anything.
    let is_quoting = http2_error(error).is_some_and(h2::Error::is_remote);
    let text = if is_quoting { error.to_string() } else { base::error::chain(error) };
    let (reason, status) = if error.is_parse_too_large() {
        // Hyper has a limit of its own on paths, and tells the two apart in its text only.
        let is_path = text == "URI too long";
        let status = if is_path { StatusCode::URI_TOO_LONG } else { StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE };
        (Reason::HeadTooLarge, Some(status))
    } else if error.is_parse_version_h2() {
        // HTTP/2 where HTTP/1 was agreed on.
        (Reason::HeadMalformed, None)
    } else if error.is_parse() {
        (Reason::HeadMalformed, Some(StatusCode::BAD_REQUEST))
    } else if let Some(reason) = http2_offence(error) {
        (reason, None)
    } else {
        // Callers leave without ceremony all the time; that is no refusal.
        return tracing::debug!(code = "connection_broke", peer = %caller.peer, error = text, "connection broke");
    };
    refuse_connection(refusals, caller, reason, status);
    log_refusal!(refusals, reason, code = "connection_not_understood", peer = %caller.peer, error = text, "connection ended: it cannot be understood");
}

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// What a caller did to HTTP/2, where that made h2 end the connection.
fn http2_offence(error: &hyper::Error) -> Option<Reason> {
    let reason = http2_error(error).filter(|error| error.is_library())?.reason()?;
    Some(if reason == h2::Reason::ENHANCE_YOUR_CALM { Reason::Http2Abuse } else { Reason::Http2Malformed })
}

/// Counts and keeps a connection that is ended for what its caller did; `status`, if it was answered.
fn refuse_connection(refusals: &Refusals, caller: &Caller, reason: Reason, status: Option<StatusCode>) {
    refusals.count(reason);
    if let Some(status) = status {
        refusals.count_answer(status);
    }
    // Of one that never said anything there is nothing to keep.
    if reason != Reason::Silent {
        refusals.keep(caller, &Record { reason, status, size: None, is_known: caller.is_known, body: None });
    }
}
