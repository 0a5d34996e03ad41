//! Authorities: they issue certificates, make authorities below them, and sign lists of what is revoked.

use super::{
    error::Error,
    identity::Identity,
    leaf::{DAY, Leaf, generate, random_serial, set_window, since_epoch, subject},
};
use base::clock::{self, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// Life of an authority: ten years.
const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3650);

/// A certificate authority that lives as long as this value.
pub struct Authority {
    certificate_pem: String,
    key_pem: Zeroizing<String>,
    /// Intermediates that a leaf must bring along: this one and those above it, without the root.
    chain_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a root authority.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the system gives no randomness.
    pub fn new(name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let parameters = authority_parameters(name);
        let certificate_pem = parameters.self_signed(&key)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Self { certificate_pem, key_pem, chain_pem: String::new(), issuer: Issuer::new(parameters, key) })
    }

    /// Makes an authority below this one; what it issues brings the chain along.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the system gives no randomness.
    pub fn intermediate(&self, name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut parameters = authority_parameters(name);
        parameters.use_authority_key_identifier_extension = true;
        let certificate_pem = parameters.signed_by(&key, &self.issuer)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        let chain_pem = format!("{certificate_pem}{}", self.chain_pem);
        Ok(Self { certificate_pem, key_pem, chain_pem, issuer: Issuer::new(parameters, key) })
    }

    /// The authority's own certificate: what a peer must trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority as something that can be written to files.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { certificate_pem: self.certificate_pem.clone(), key_pem: self.key_pem.clone(), serial: Vec::new() }
    }

    /// Issues a server certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a name is not valid.
    pub fn server<S: AsRef<str>>(&self, names: &[S]) -> Result<Identity, Error> {
        self.issue(&Leaf::server(names))
    }

    /// Issues a client certificate.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a name is not valid.
    pub fn client<S: AsRef<str>>(&self, common_name: &str, dns_names: &[S]) -> Result<Identity, Error> {
        self.issue(&Leaf::client(common_name, dns_names))
    }

    /// Issues any certificate.
    ///
    /// # Errors
    /// [`Error::Certificate`] when a name is not valid.
    pub fn issue(&self, leaf: &Leaf) -> Result<Identity, Error> {
        let key = generate(leaf.key)?;
        let serial = leaf.serial.clone().unwrap_or_else(random_serial);
        let mut parameters = leaf.parameters(&serial)?;
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate_pem: format!("{}{}", certificate.pem(), self.chain_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
            serial,
        })
    }

    /// Signs a list that revokes these serial numbers, as PEM; it was made an hour ago, or before `next_update`.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the library refuses a parameter.
    pub fn revocation_list<S: AsRef<[u8]>>(&self, serials: &[S], next_update: Timestamp) -> Result<String, Error> {
        let hour = Duration::from_hours(1);
        let made = clock::now().min(next_update).before(hour);
        let instant = |at: Timestamp| date_time_ymd(1970, 1, 1) + since_epoch(at);
        let list = CertificateRevocationListParams {
            this_update: instant(made),
            next_update: instant(next_update),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial.as_ref()),
                    revocation_time: instant(made),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn authority_parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = subject(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    parameters.serial_number = Some(SerialNumber::from_slice(&random_serial()));
    let now = clock::now();
    set_window(&mut parameters, now.before(DAY), now.after(AUTHORITY_LIFE));
    parameters
}
