//! Throwaway certificates: authorities, server and client identities, revocation lists.
//!
//! In: names, a validity window, a key type. Out: PEM texts, and files whose keys only their owner can read. The first
//! start of `serve`, the `certs` and `simulate` commands, the demo and every TLS test take their certificates from here.
//!
//! Promises: each certificate gets its own random serial number, so that it can be revoked alone; a key is never
//! visible to others, not even for a moment, because its file is created with mode 0600 under another name and then
//! moved into place. Held by the tests below.
//!
//! Not here: reading the operator's certificates for the listener, and what to accept from a peer; that is `receive`.
//! Nothing made here is fit for production: keys are exportable and no authority keeps a record of what it signed.

use base::clock::{self, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

const DAY: Duration = Duration::from_hours(24);
/// Life of a leaf, with the day before included: one year, as Mozilla's intermediate profile allows.
const LEAF_LIFE: Duration = Duration::from_hours(24 * 364);
const AUTHORITY_LIFE: Duration = Duration::from_hours(24 * 3650);
/// 9999-12-31T23:59:59Z, the last instant that X.509 can write.
const LAST_MILLISECOND: u64 = 253_402_300_799_000;

/// Why a certificate could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name is not a valid DNS name, or the library refused a parameter.
    #[error("cannot make the certificate")]
    Certificate(#[from] rcgen::Error),
    /// A PEM text holds no certificate or no key.
    #[error("cannot read the PEM text")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A certificate with its chain and its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then its intermediates; never the root.
    pub certificate_pem: String,
    /// PKCS #8.
    pub key_pem: Zeroizing<String>,
    /// Serial number of the certificate, big-endian; empty when read from a file.
    pub serial: Vec<u8>,
}

impl Identity {
    /// Reads an identity from two PEM files.
    ///
    /// # Errors
    /// [`Error::File`] when one cannot be read, [`Error::Pem`] when one holds no certificate or no key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let text =
            |path: &Path| fs::read_to_string(path).map_err(|source| Error::File { path: path.to_path_buf(), source });
        let identity =
            Self { certificate_pem: text(certificate)?, key_pem: Zeroizing::new(text(key)?), serial: Vec::new() };
        identity.certificates()?;
        identity.key()?;
        Ok(identity)
    }

    /// The certificates as rustls takes them, the leaf first.
    ///
    /// # Errors
    /// [`Error::Pem`] when there is none, or when one is damaged.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<_, _>>()?;
        if chain.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound.into()) } else { Ok(chain) }
    }

    /// The key as rustls takes it.
    ///
    /// # Errors
    /// [`Error::Pem`] when there is none.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        Ok(PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

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

    /// The same, but its validity begins tomorrow.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        Self { not_before: clock::now().after(DAY), ..self }
    }

    fn parameters(&self, serial: &[u8]) -> Result<CertificateParams, Error> {
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

/// What to do when a file exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail with [`io::ErrorKind::AlreadyExists`].
    Refuse,
    /// Put the new one in its place.
    Replace,
}

/// Writes an identity to two new files: the key readable by its owner only, each file whole or not at all.
///
/// Folders are made as needed. When the certificate cannot be written, the new key is taken away again.
///
/// # Errors
/// [`Error::File`], also when one of the two exists already.
pub fn write_identity(certificate: &Path, key: &Path, identity: &Identity) -> Result<(), Error> {
    write_identity_over(certificate, key, identity, Existing::Refuse)
}

/// Writes an identity to two files, replacing what is there if told so.
///
/// # Errors
/// [`Error::File`] naming the file that could not be written.
pub fn write_identity_over(
    certificate: &Path,
    key: &Path,
    identity: &Identity,
    existing: Existing,
) -> Result<(), Error> {
    if existing == Existing::Refuse && certificate.exists() {
        return Err(Error::File { path: certificate.to_path_buf(), source: io::ErrorKind::AlreadyExists.into() });
    }
    write_file(key, identity.key_pem.as_bytes(), 0o600, existing)?;
    write_file(certificate, identity.certificate_pem.as_bytes(), 0o644, existing).inspect_err(|_| {
        if existing == Existing::Refuse {
            // The certificate's error is the one to tell; a key alone would only block the next attempt.
            fs::remove_file(key).unwrap_or_default();
        }
    })
}

/// Writes a file under another name, syncs it, and moves it into place.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn write_file(path: &Path, content: &[u8], mode: u32, existing: Existing) -> Result<(), Error> {
    place(path, content, mode, existing).map_err(|source| Error::File { path: path.to_path_buf(), source })
}

fn place(path: &Path, content: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let scratch = folder.join(format!(".{}.{:016x}", name.to_string_lossy(), fastrand::u64(..)));
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&scratch)?;
        file.write_all(content)?;
        file.sync_all()?;
        match existing {
            Existing::Replace => fs::rename(&scratch, path),
            // Unlike a rename, a link fails where the name is taken.
            Existing::Refuse => fs::hard_link(&scratch, path).and_then(|()| fs::remove_file(&scratch)),
        }
    })();
    if result.is_err() {
        fs::remove_file(&scratch).unwrap_or_default();
    }
    result
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

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_window(parameters: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    parameters.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before);
    parameters.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0).min(LAST_MILLISECOND))
}

fn generate(kind: KeyKind) -> Result<KeyPair, Error> {
    Ok(match kind {
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    })
}

/// 127 random bits: positive, and never with a leading zero byte that DER would drop.
fn random_serial() -> Vec<u8> {
    let number = fastrand::u128(..) & (u128::MAX >> 1) | (1 << 126);
    number.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{CertificateRevocationListDer, ServerName, UnixTime},
        server::WebPkiClientVerifier,
    };
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    fn roots(pem: &str) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            store.add(certificate.unwrap()).unwrap();
        }
        Arc::new(store)
    }

    fn provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn as_server(trusted: &str, identity: &Identity, name: &str) -> Result<(), rustls::Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(trusted), provider()).build().unwrap();
        let chain = identity.certificates().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now()).map(|_| ())
    }

    fn as_client(trusted: &str, identity: &Identity, revocations: Option<&str>) -> Result<(), rustls::Error> {
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots(trusted), provider());
        if let Some(pem) = revocations {
            let lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap);
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let chain = identity.certificates().unwrap();
        builder.build().unwrap().verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).map(|_| ())
    }

    #[test]
    fn a_server_is_trusted_under_its_names_only() {
        let authority = Authority::new("test").unwrap();
        let server = authority.server(&["localhost", "127.0.0.1"]).unwrap();
        as_server(authority.certificate_pem(), &server, "localhost").unwrap();
        as_server(authority.certificate_pem(), &server, "127.0.0.1").unwrap();
        as_server(authority.certificate_pem(), &server, "example.org").unwrap_err();
        as_server(Authority::new("other").unwrap().certificate_pem(), &server, "localhost").unwrap_err();
    }

    #[test]
    fn an_intermediate_brings_its_chain() {
        let root = Authority::new("root").unwrap();
        let middle = root.intermediate("middle").unwrap();
        let server = middle.server(&["localhost"]).unwrap();
        assert_eq!(server.certificates().unwrap().len(), 2);
        as_server(root.certificate_pem(), &server, "localhost").unwrap();
    }

    #[test]
    fn the_first_start_certificate_can_be_trusted_as_it_is() {
        let identity = self_signed_localhost().unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            as_server(&identity.certificate_pem, &identity, name).unwrap();
        }
    }

    #[test]
    fn clients_are_refused_for_each_reason() {
        let authority = Authority::new("test").unwrap();
        let trusted = authority.certificate_pem();
        let leaf = Leaf::client("linxo", &["client.example"]);
        let check = |leaf: Leaf| as_client(trusted, &authority.issue(&leaf).unwrap(), None);
        check(leaf.clone()).unwrap();
        check(Leaf { usage: Usage::Any, ..leaf.clone() }).unwrap();
        check(Leaf { unknown_extension: Some(false), ..leaf.clone() }).unwrap();
        for kind in [KeyKind::P384, KeyKind::Rsa2048] {
            check(Leaf { key: kind, ..leaf.clone() }).unwrap();
        }
        check(leaf.clone().expired()).unwrap_err();
        check(leaf.clone().not_yet_valid()).unwrap_err();
        check(Leaf { usage: Usage::Server, ..leaf.clone() }).unwrap_err();
        check(Leaf { unknown_extension: Some(true), ..leaf.clone() }).unwrap_err();
        as_client(trusted, &self_signed(&leaf).unwrap(), None).unwrap_err();
    }

    #[test]
    fn a_revoked_serial_is_refused_and_its_neighbour_is_not() {
        let authority = Authority::new("test").unwrap();
        let trusted = authority.certificate_pem();
        let revoked = authority.client("a", &["a.example"]).unwrap();
        let good = authority.client("b", &["b.example"]).unwrap();
        let list = authority.revocation_list(&[&revoked.serial], clock::now().after(DAY)).unwrap();
        as_client(trusted, &good, Some(&list)).unwrap();
        as_client(trusted, &revoked, Some(&list)).unwrap_err();
        let stale = authority.revocation_list(&[&revoked.serial], clock::now().before(DAY)).unwrap();
        as_client(trusted, &good, Some(&stale)).unwrap_err();
    }

    #[test]
    fn a_given_serial_is_the_one_in_the_certificate() {
        let authority = Authority::new("test").unwrap();
        let leaf = Leaf { serial: Some(vec![0x12, 0x34]), ..Leaf::client("a", &["a.example"]) };
        let chain = authority.issue(&leaf).unwrap().certificates().unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        assert_eq!(parsed.raw_serial(), [0x12, 0x34]);
    }

    #[test]
    fn keys_are_for_their_owner_and_files_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("new/server.pem"), folder.path().join("new/server.key"));
        let identity = self_signed_localhost().unwrap();
        write_identity(&certificate, &key, &identity).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Identity::read(&certificate, &key).unwrap().key_pem, identity.key_pem);
        let refused = write_identity(&certificate, &key, &self_signed_localhost().unwrap()).unwrap_err();
        assert!(matches!(refused, Error::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read_to_string(&key).unwrap(), *identity.key_pem);
        let other = self_signed_localhost().unwrap();
        write_identity_over(&certificate, &key, &other, Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&key).unwrap(), *other.key_pem);
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 2, "no scratch file stays");
    }

    #[test]
    fn debug_shows_no_key() {
        let authority = Authority::new("test").unwrap();
        let shown = format!("{authority:?} {:?}", authority.identity());
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}
