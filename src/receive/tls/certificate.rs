//! Facts about a certificate of the configuration, and whether it is of use now.

use crate::receive::identity;
use base::clock::Timestamp;
use rustls::pki_types::CertificateDer;
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate that ends sooner than this deserves a warning.
const SOON: Duration = Duration::from_hours(30 * 24);

/// Facts about a certificate of the configuration, for the log, the metrics and `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Distinguished name; often empty in public certificates.
    pub subject: String,
    /// DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

/// Whose certificates these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The one that events come to: `[tls]`.
    Public,
    /// The one for those who run the service: `[admin.tls]`.
    Admin,
}

/// Whether a certificate is of use now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For at least 30 days more.
    Good,
    /// For this many whole days only.
    EndsSoon {
        /// 0 to 29.
        days: u64,
    },
    /// Callers will refuse it.
    Expired,
    /// Callers will refuse it for now; often a wrong clock.
    NotYet,
}

impl Certificate {
    /// Where `now` stands in its validity.
    #[must_use]
    pub fn validity(&self, now: Timestamp) -> Validity {
        let left = self.not_after.since(now);
        if now > self.not_after {
            Validity::Expired
        } else if now < self.not_before {
            Validity::NotYet
        } else if left < SOON {
            Validity::EndsSoon { days: left.as_secs() / 86_400 }
        } else {
            Validity::Good
        }
    }

    /// `None` where it cannot be read.
    pub(in crate::receive) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let millis = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        Some(Self {
            subject: certificate.subject().to_string(),
            names: identity::names(&certificate),
            not_before: millis(certificate.validity().not_before.timestamp()),
            not_after: millis(certificate.validity().not_after.timestamp()),
        })
    }

    /// Says, as a warning, that a listener's certificate ends soon; as an error, that it has ended.
    pub fn log_end(&self, listener: Listener, now: Timestamp) {
        let listener = listener.as_str();
        let (subject, names, not_after) = (&self.subject, self.names.join(", "), self.not_after.to_rfc3339());
        match self.validity(now) {
            Validity::Good => {}
            validity @ Validity::Expired => {
                let problem = format!("{listener} listener: {}", validity.problem().unwrap_or_default());
                tracing::error!(code = "certificate_expired", listener, subject, names, not_after, "{problem}");
            }
            validity => {
                let problem = format!("{listener} listener: {}", validity.problem().unwrap_or_default());
                tracing::warn!(code = "certificate_ends", listener, subject, names, not_after, "{problem}");
            }
        }
    }

    /// Says, as a warning, that this authority of client certificates ends soon; as an error, that it has ended.
    pub fn log_end_of_authority(&self, listener: Listener, now: Timestamp) {
        let remedy = format!(
            "ask for its successor, and put that beside it in {} before callers change",
            listener.authorities()
        );
        let listener = listener.as_str();
        let (subject, not_after) = (&self.subject, self.not_after.to_rfc3339());
        match self.validity(now) {
            Validity::Good | Validity::NotYet => {}
            Validity::EndsSoon { days } => {
                tracing::warn!(
                    code = "authority_ends",
                    listener,
                    subject,
                    not_after,
                    "an authority of client certificates ends in {days} days: {remedy}"
                );
            }
            Validity::Expired => {
                tracing::error!(
                    code = "authority_expired",
                    listener,
                    subject,
                    not_after,
                    "an authority of client certificates has expired: {remedy}"
                );
            }
        }
    }
}

impl Listener {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Admin => "admin",
        }
    }

    /// The key of the authorities that sign its callers' certificates.
    const fn authorities(self) -> &'static str {
        match self {
            Self::Public => "tls.clients.authorities",
            Self::Admin => "admin.tls.authorities",
        }
    }

    /// The key of the lists of revoked certificates.
    pub(super) const fn revocations(self) -> &'static str {
        match self {
            Self::Public => "tls.clients.revocations",
            Self::Admin => "admin.tls.revocations",
        }
    }
}

impl Validity {
    /// What to do about it, if anything.
    #[must_use]
    pub fn problem(self) -> Option<String> {
        match self {
            Self::Good => None,
            Self::EndsSoon { days } => Some(format!("the certificate ends in {days} days: renew it")),
            Self::Expired => Some("the certificate has expired, callers will refuse it: renew it".to_owned()),
            Self::NotYet => Some("the certificate is not valid yet: check the clock of this machine".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_over_time() {
        let day = Duration::from_hours(24);
        let start = Timestamp::from_millis(1_000_000_000_000);
        let certificate = Certificate {
            subject: String::new(),
            names: Vec::new(),
            not_before: start,
            not_after: start.after(day * 90),
        };
        assert_eq!(certificate.validity(start.before(day)), Validity::NotYet);
        assert_eq!(certificate.validity(start.after(day)), Validity::Good);
        assert_eq!(certificate.validity(start.after(day * 83)), Validity::EndsSoon { days: 7 });
        assert_eq!(certificate.validity(start.after(day * 91)), Validity::Expired);
    }
}
