//! What goes into a certificate that is no authority's: names, validity, usage, key.

use super::{error::Error, identity::Identity};
use base::clock::{self, Timestamp};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    RsaKeySize, SerialNumber, date_time_ymd,
};
use std::time::Duration;
use zeroize::Zeroizing;

/// One day.
pub(super) const DAY: Duration = Duration::from_hours(24);
/// Life of a leaf, with the day before included: one year, as Mozilla's intermediate profile allows.
const LEAF_LIFE: Duration = Duration::from_hours(24 * 364);
/// 9999-12-31T23:59:59Z, the last instant that X.509 can write.
const LAST_MILLISECOND: u64 = 253_402_300_799_000;

/// Type of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256: small and fast, accepted everywhere.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits, signed with SHA-256.
    Rsa2048,
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth`.
    Server,
    /// `clientAuth`.
    Client,
    /// No extended key usage at all: anything.
    Any,
}

/// What to put into a certificate; start from [`Leaf::server`] or [`Leaf::client`] and change what matters.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Subject common name.
    pub common_name: String,
    /// Subject alternative names: DNS names and IP addresses.
    pub names: Vec<String>,
    /// Extended key usage.
    pub usage: Usage,
    /// First instant of validity.
    pub not_before: Timestamp,
    /// Last instant of validity.
    pub not_after: Timestamp,
    /// Serial number, big-endian; `None`: a random one.
    pub serial: Option<Vec<u8>>,
    /// Type of the key.
    pub key: KeyKind,
    /// Adds an extension that nobody knows: `Some(true)` critical, so that it must be refused; `Some(false)` harmless.
    pub unknown_extension: Option<bool>,
}

impl Leaf {
    /// A server certificate, valid from yesterday for a little more than a year.
    #[must_use]
    pub fn server<S: AsRef<str>>(names: &[S]) -> Self {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_else(|| "server".to_owned());
        let now = clock::now();
        Self {
            common_name,
            names,
            usage: Usage::Server,
            // A day early: the clocks of two machines never agree.
            not_before: now.before(DAY),
            not_after: now.after(LEAF_LIFE),
            serial: None,
            key: KeyKind::default(),
            unknown_extension: None,
        }
    }

    /// A client certificate, valid from yesterday for a little more than a year.
    #[must_use]
    pub fn client<S: AsRef<str>>(common_name: &str, names: &[S]) -> Self {
        Self { common_name: common_name.to_owned(), usage: Usage::Client, ..Self::server(names) }
    }

    /// The same, but its validity ended an hour ago.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = clock::now();
        Self { not_before: now.before(DAY.saturating_mul(2)), not_after: now.before(Duration::from_hours(1)), ..self }
    }

    /// The same, but its validity ends after this time.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        Self { not_after: clock::now().after(time), ..self }
    }

    /// The same, but its validity begins tomorrow.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        Self { not_before: clock::now().after(DAY), ..self }
    }

    pub(super) fn parameters(&self, serial: &[u8]) -> Result<CertificateParams, Error> {
        let mut parameters = CertificateParams::new(self.names.clone())?;
        parameters.distinguished_name = subject(&self.common_name);
        parameters.serial_number = Some(SerialNumber::from_slice(serial));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match self.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Any => Vec::new(),
        };
        if let Some(critical) = self.unknown_extension {
            // A number of the arc that documents use for examples (2.999), with an ASN.1 NULL.
            let mut extension = CustomExtension::from_oid_content(&[2, 999, 1], vec![5, 0]);
            extension.set_criticality(critical);
            parameters.custom_extensions.push(extension);
        }
        set_window(&mut parameters, self.not_before, self.not_after);
        Ok(parameters)
    }
}

/// Makes the certificate of a first start: self-signed, for `localhost`, `127.0.0.1` and `::1`.
///
/// It can be trusted as it is (`curl --cacert`), because it is no authority and so cannot vouch for anything else.
///
/// # Errors
/// [`Error::Certificate`] when the system gives no randomness.
pub fn self_signed_localhost() -> Result<Identity, Error> {
    self_signed(&Leaf::server(&["localhost", "127.0.0.1", "::1"]))
}

/// Makes a self-signed certificate.
///
/// # Errors
/// [`Error::Certificate`] when a name is not valid.
pub fn self_signed(leaf: &Leaf) -> Result<Identity, Error> {
    let key = generate(leaf.key)?;
    let serial = leaf.serial.clone().unwrap_or_else(random_serial);
    let certificate = leaf.parameters(&serial)?.self_signed(&key)?;
    Ok(Identity { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()), serial })
}

pub(super) fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

pub(super) fn set_window(parameters: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    parameters.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before);
    parameters.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
}

pub(super) fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0).min(LAST_MILLISECOND))
}

pub(super) fn generate(kind: KeyKind) -> Result<KeyPair, Error> {
    Ok(match kind {
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    })
}

/// 127 random bits: positive, and never with a leading zero byte that DER would drop.
pub(super) fn random_serial() -> Vec<u8> {
    let number = fastrand::u128(..) & (u128::MAX >> 1) | (1 << 126);
    number.to_be_bytes().to_vec()
}
