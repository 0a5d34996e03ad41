//! Why something is refused, as one closed set: callers never decide how many metrics or log lines there are.

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $label:literal,)*) => {
        /// Why a socket, a handshake or a request is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Stable name, for metrics, log, `inbox refused` and problem documents.
            pub(super) const fn label(self) -> &'static str {
                match self { $(Self::$reason => $label,)* }
            }

            /// Every one.
            pub(super) const ALL: &[Self] = &[$(Self::$reason,)*];
        }
    };
}

reasons! {
    // Sockets.
    /// As many are open as allowed.
    ConnectionLimit = "connection_limit",
    /// As many handshakes are under way as allowed, and this one was not, or no longer, among those that go first.
    HandshakeLimit = "handshake_limit",
    /// Its address has as many open as allowed.
    AddressLimit = "address_limit",
    /// Callers from outside of `sender.networks` have as many open as allowed.
    StrangerLimit = "stranger_limit",
    /// It was closed, or its time was over, before a first byte came: somebody only looked whether the port is open.
    Probe = "probe",
    /// Accepting failed: no descriptors, no memory.
    AcceptFailed = "accept_failed",
    /// Not from a balancer, where one is configured.
    ProxyUntrusted = "proxy_untrusted",
    /// No PROXY header, or a wrong one.
    ProxyInvalid = "proxy_invalid",
    /// The PROXY header did not come in time.
    ProxyTimeout = "proxy_timeout",

    // Handshakes.
    /// Not finished in time.
    HandshakeTimeout = "handshake_timeout",
    /// The socket broke.
    TlsBroken = "tls_broken",
    /// What came is not TLS.
    TlsInvalid = "tls_invalid",
    /// No version, suite or protocol in common.
    TlsIncompatible = "tls_incompatible",
    /// The caller ended it.
    TlsAlert = "tls_alert",
    /// The caller does not accept our certificate.
    ServerCertificateRefused = "server_certificate_refused",
    /// Any of those below, for the metric `refused`; they are the verdicts of `client_certificates`.
    ClientCertificate = "client_certificate",

    // Client certificates.
    /// None was shown.
    NoCertificate = "no_certificate",
    /// None of our authorities vouches for it; self-signed ones too.
    UnknownAuthority = "unknown_authority",
    /// Its time is over.
    Expired = "expired",
    /// Its time has not begun.
    NotYetValid = "not_yet_valid",
    /// Its authority has called it back.
    Revoked = "revoked",
    /// The list that would say whether it was revoked has ended.
    CrlExpired = "crl_expired",
    /// No list says whether it was revoked.
    UnknownRevocationStatus = "unknown_revocation_status",
    /// Made for servers, or for something else.
    WrongUsage = "wrong_usage",
    /// A signature, of the chain or of the handshake, is wrong or of a kind that is not accepted.
    BadSignature = "bad_signature",
    /// Vouched for, but under none of the accepted names.
    NameNotListed = "name_not_listed",
    /// Vouched for, but with none of the accepted keys.
    FingerprintNotListed = "fingerprint_not_listed",
    /// Cannot be read, or says something critical that cannot be understood.
    Malformed = "malformed",

    // Connections.
    /// No byte of a first request came in time.
    Silent = "silent",
    /// A head did not end in time.
    HeadTimeout = "head_timeout",
    /// A head cannot be read.
    HeadMalformed = "head_malformed",
    /// A head, its path included, is too large.
    HeadTooLarge = "head_too_large",
    /// Frames of HTTP/2 that cannot be understood.
    Http2Malformed = "http2_malformed",
    /// Frames of HTTP/2 that only serve to wear us out.
    Http2Abuse = "http2_abuse",

    // Requests.
    /// The caller's address is not in `sender.networks`.
    Network = "network",
    /// Another path, or a wrong path secret.
    NotFound = "not_found",
    /// Another method than POST.
    Method = "method_not_allowed",
    /// A transfer coding other than one `chunked`.
    TransferEncoding = "transfer_encoding",
    /// No field `Host`, several, or one that names no host.
    Host = "host",
    /// The connection is over: its certificate has ended, or the TLS settings were replaced that it began with.
    ConnectionOver = "connection_over",
    /// A compressed body.
    ContentEncoding = "content_encoding",
    /// The body is over the limit.
    BodyTooLarge = "body_too_large",
    /// The body did not end in time.
    BodyTimeout = "body_timeout",
    /// The connection or stream broke within the body.
    BodyCut = "body_cut",
    /// The body is not JSON.
    NotJson = "not_json",
    /// The body is JSON, but no object.
    NotAnObject = "not_an_object",
    /// The body is an object, but no event.
    InvalidField = "invalid_field",
    /// As many requests are under way as allowed.
    Overloaded = "overloaded",
    /// The bodies under way take all the memory they may.
    BodyMemory = "body_memory",
    /// No room in the store.
    StoreFull = "store_full",
    /// As many unfinished entries as allowed.
    Backlog = "backlog",
    /// The store failed.
    StoreUnavailable = "store_unavailable",
    /// The commit takes too long.
    StoreSlow = "store_slow",
    /// The process is ending.
    Draining = "draining",
    /// A fault of the program.
    Internal = "internal",
}

impl Reason {
    /// Whether it is a judgement on a client certificate. These are counted apart, and in the metric `refused` as
    /// [`ClientCertificate`](Self::ClientCertificate).
    pub(super) const fn is_verdict(self) -> bool {
        matches!(
            self,
            Self::NoCertificate
                | Self::UnknownAuthority
                | Self::Expired
                | Self::NotYetValid
                | Self::Revoked
                | Self::CrlExpired
                | Self::UnknownRevocationStatus
                | Self::WrongUsage
                | Self::BadSignature
                | Self::NameNotListed
                | Self::FingerprintNotListed
                | Self::Malformed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
