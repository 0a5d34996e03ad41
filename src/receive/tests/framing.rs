//! Where one request ends and the next begins must never be open to two readings: what is odd is refused, and what was
//! refused is the last that its connection says.

use super::support::{EVENT, Site, Wanted, post};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    /// Accepted, and nothing is read behind it.
    Last,
    /// With this status, and nothing is read behind it.
    Refused(u16),
    /// Closed without an answer.
    Closed,
}
use Fate::{Accepted, Closed, Last, Refused};

fn with(fields: &str, body: &str) -> String {
    format!("POST /webhooks/linxo HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    with("transfer-encoding: chunked\r\n", body)
}

fn rows() -> Vec<(&'static str, String, Fate)> {
    let length = EVENT.len();
    let own = format!("content-length: {length}\r\n");
    let whole = format!("{length:x}\r\n{EVENT}\r\n0\r\n\r\n");
    let coded = |fields: &str| with(fields, &whole);
    let sized = |fields: &str| with(fields, EVENT);
    let line = |line: &str| format!("{line}\r\nhost: localhost\r\n{own}\r\n{EVENT}");
    vec![
        // Two lengths, or a length and a coding. RFC 9112 lets a server go by the coding, if it then closes: whatever a proxy
        // in front takes for the next request is never read.
        ("length and coding", coded(&format!("{own}transfer-encoding: chunked\r\n")), Last),
        ("coding and length", coded("transfer-encoding: chunked\r\ncontent-length: 4\r\n"), Last),
        ("two lengths", sized(&format!("{own}content-length: 4\r\n")), Refused(400)),
        ("a list of lengths", sized(&format!("content-length: {length}, 4\r\n")), Refused(400)),
        // Lengths.
        ("signed length", sized(&format!("content-length: +{length}\r\n")), Refused(400)),
        ("negative length", sized("content-length: -1\r\n"), Refused(400)),
        ("hexadecimal length", sized("content-length: 0xff\r\n"), Refused(400)),
        ("empty length", sized("content-length:\r\n"), Refused(400)),
        ("length over 64 bits", sized("content-length: 99999999999999999999\r\n"), Refused(400)),
        ("fraction of a length", sized("content-length: 1.0\r\n"), Refused(400)),
        // Codings.
        ("chunked in capitals", coded("transfer-encoding: CHUNKED\r\n"), Accepted),
        ("chunked behind a tab", coded("transfer-encoding: \tchunked\r\n"), Accepted),
        ("chunked twice in a list", coded("transfer-encoding: chunked, chunked\r\n"), Refused(400)),
        ("chunked twice", coded("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), Refused(400)),
        ("gzip, chunked", coded("transfer-encoding: gzip, chunked\r\n"), Refused(400)),
        ("chunked, gzip", coded("transfer-encoding: chunked, gzip\r\n"), Refused(400)),
        ("identity", coded("transfer-encoding: identity\r\n"), Refused(400)),
        ("xchunked", coded("transfer-encoding: xchunked\r\n"), Refused(400)),
        ("chunked with a parameter", coded("transfer-encoding: chunked;x=1\r\n"), Refused(400)),
        ("quoted chunked", coded("transfer-encoding: \"chunked\"\r\n"), Refused(400)),
        ("empty coding", coded("transfer-encoding:\r\n"), Refused(400)),
        ("a list with an empty element", coded("transfer-encoding: chunked,\r\n"), Refused(400)),
        ("coding in HTTP/1.0", coded("transfer-encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"), Refused(400)),
        // Fields.
        ("blank before the colon", sized(&format!("content-length : {length}\r\n")), Refused(400)),
        ("folded field", sized(&format!("{own}x-fold: a\r\n b\r\n")), Refused(400)),
        ("folded coding", coded("transfer-encoding:\r\n chunked\r\n"), Refused(400)),
        ("field that begins with a blank", sized(&format!(" x: y\r\n{own}")), Refused(400)),
        ("field without a name", sized(&format!(": y\r\n{own}")), Refused(400)),
        ("field without a colon", sized(&format!("x\r\n{own}")), Refused(400)),
        ("NUL in a field", sized(&format!("x: a\0b\r\n{own}")), Refused(400)),
        ("bare CR in a field", sized(&format!("x: a\rb\r\n{own}")), Refused(400)),
        ("control character in a name", sized(&format!("x\u{1}: a\r\n{own}")), Refused(400)),
        // Lines.
        ("two blanks", line("POST  /webhooks/linxo HTTP/1.1"), Refused(400)),
        ("no version", line("POST /webhooks/linxo"), Refused(400)),
        ("version in small letters", line("POST /webhooks/linxo http/1.1"), Refused(400)),
        ("a version to come", line("POST /webhooks/linxo HTTP/1.2"), Refused(400)),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), Closed),
        ("control character in the path", line("POST /webhooks/linxo\u{7f} HTTP/1.1"), Refused(400)),
        ("whole URL", line("POST https://localhost/webhooks/linxo HTTP/1.1"), Accepted),
        // Chunks.
        ("chunk extension", chunked(&whole.replacen("\r\n", ";a=b\r\n", 1)), Accepted),
        ("size in capitals", chunked(&whole.replacen(&format!("{length:x}"), &format!("{length:X}"), 1)), Accepted),
        ("size with 0x", chunked(&format!("0x{whole}")), Refused(400)),
        ("negative size", chunked(&format!("-{whole}")), Refused(400)),
        ("signed size", chunked(&format!("+{whole}")), Refused(400)),
        ("size over 64 bits", chunked(&format!("1{}{whole}", "0".repeat(16))), Refused(400)),
        ("no size", chunked(&format!("\r\n{whole}")), Refused(400)),
        ("chunk longer than its size", chunked(&format!("2\r\n{EVENT}\r\n0\r\n\r\n")), Refused(400)),
        ("chunk without an end", chunked(&format!("{length:x}\r\n{EVENT}0\r\n\r\n")), Refused(400)),
    ]
}

#[tokio::test]
async fn odd_framing_is_refused_and_never_answered_twice() {
    let site = Site::start(Wanted::default()).await;
    let mut surprises = Vec::new();
    for (name, request, fate) in rows() {
        let mut client = site.connect().await;
        // A second request right behind: it must be answered after an accepted one, and never after a refused one.
        client.send(&format!("{request}{}", post(EVENT))).await;
        let first = client.answer().await.map(|answer| answer.status);
        let second = client.answer().await.map(|answer| answer.status);
        let expected = match fate {
            Accepted => (Some(200), Some(200)),
            Last => (Some(200), None),
            Refused(status) => (Some(status), None),
            Closed => (None, None),
        };
        if (first, second) != expected {
            surprises.push(format!("{name}: {first:?} {second:?}, expected {expected:?}"));
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
}
