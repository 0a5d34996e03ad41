//! From `[tls]` to the settings of handshakes.

use super::{
    certificate::{Certificate, Listener},
    clients::{self, Demand, LoadedClients},
    error::Error,
    pair,
    revocations::{self, RevocationList, ended},
};
use crate::receive::settings::{ClientMode, Tls, TlsVersion};
use base::clock::{self, Timestamp};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};
use std::sync::Arc;

/// TLS settings, ready to use.
#[derive(Debug)]
pub struct Loaded {
    /// Whose these are.
    pub listener: Listener,
    /// For the handshakes.
    pub config: Arc<ServerConfig>,
    /// The certificate that callers see.
    pub certificate: Certificate,
    /// The authorities of client certificates that are accepted; empty: none is asked for.
    pub authorities: Vec<Certificate>,
    /// Lists of revoked client certificates, the newest first.
    pub revocations: Vec<RevocationList>,
    /// What is allowed, but should be known, one sentence each.
    pub warnings: Vec<String>,
    /// Whether client certificates are only observed.
    pub(in crate::receive) is_observing: bool,
}

impl Loaded {
    /// Logs which certificate is used, as a warning when callers refuse it or soon will, and what else should be known.
    pub fn log(&self) {
        let Certificate { subject, names, not_after, .. } = &self.certificate;
        let not_after = not_after.to_rfc3339();
        let names = names.join(", ");
        let (authorities, revocations) = (self.authorities.len(), self.revocations.len());
        tracing::info!(
            code = "certificate_loaded",
            listener = self.listener.as_str(),
            subject,
            names,
            not_after,
            authorities,
            revocations,
            "certificate loaded"
        );
        self.certificate.log_end(self.listener, clock::now());
        for warning in &self.warnings {
            tracing::warn!(code = "tls_warning", "{warning}");
        }
        for authority in &self.authorities {
            authority.log_end_of_authority(self.listener, clock::now());
        }
        for list in ended(&self.revocations, clock::now()) {
            list.log_end(self.listener);
        }
    }

    /// When the first revocation list that counts ends; `None` without any.
    #[must_use]
    pub fn revocations_end(&self) -> Option<Timestamp> {
        revocations::in_use(&self.revocations).map(|list| list.ends).min()
    }

    /// The same settings with other ticket keys: what began under the present ones is not resumed. Reads no file, so that
    /// nothing which is wrong with one can be in the way.
    ///
    /// # Errors
    /// [`Error::Settings`] when the system gives no randomness.
    pub fn renewed(&self) -> Result<Self, Error> {
        let mut settings = ServerConfig::clone(&self.config);
        if settings.ticketer.enabled() {
            settings.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Settings)?;
        }
        Ok(Self {
            listener: self.listener,
            config: Arc::new(settings),
            certificate: self.certificate.clone(),
            authorities: self.authorities.clone(),
            revocations: self.revocations.clone(),
            warnings: self.warnings.clone(),
            is_observing: self.is_observing,
        })
    }
}

/// Reads all files and builds the settings. Blocking; a few small files.
///
/// # Errors
/// [`Error`]: nothing can be used until it is put right.
pub fn load(config: &Tls) -> Result<Loaded, Error> {
    let demand = match config.clients.mode {
        ClientMode::Off => None,
        ClientMode::Observe => Some(Demand::Observed),
        ClientMode::Required => Some(Demand::Required),
    };
    build(config, demand)
}

/// The same for the admin listener, which speaks HTTP/1.1 alone, and whose callers may show a certificate and need not: one that they show must be good.
/// No session is resumed, so that each handshake is judged.
///
/// # Errors
/// [`Error`], as [`load`].
pub fn load_optional(config: &Tls) -> Result<Loaded, Error> {
    let loaded = build(config, (!config.clients.authorities.is_empty()).then_some(Demand::Optional))?;
    let mut settings = ServerConfig::clone(&loaded.config);
    settings.alpn_protocols = vec![b"http/1.1".to_vec()];
    settings.send_tls13_tickets = 0;
    settings.ticketer = Arc::new(NoTickets);
    Ok(Loaded { listener: Listener::Admin, config: Arc::new(settings), ..loaded })
}

/// Gives out no tickets, by which a session could be resumed.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn build(config: &Tls, demand: Option<Demand>) -> Result<Loaded, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (certified, certificate) = pair::read(&config.certificate, &config.key, &provider)?;
    let versions: &[_] = match config.minimum_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(Error::Settings)?;
    let is_observing = demand == Some(Demand::Observed);
    let (verifier, clients) = match demand {
        None => (WebPkiClientVerifier::no_client_auth(), None),
        Some(demand) => {
            let loaded = clients::load(&config.clients, demand, &provider)?;
            (Arc::clone(&loaded.verifier) as _, Some(loaded))
        }
    };
    let builder = builder.with_client_cert_verifier(verifier);
    let mut settings = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    settings.max_early_data_size = 0;
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    if is_observing {
        // A resumed session shows no certificate, and could not be judged.
        settings.send_tls13_tickets = 0;
    } else {
        // Sessions live in tickets, not in our memory; their keys rotate, and end with these settings.
        settings.ticketer = aws_lc_rs::Ticketer::new().map_err(Error::Settings)?;
    }
    let (authorities, revocations, warnings) = clients
        .map_or_else(Default::default, |LoadedClients { authorities, revocations, warnings, .. }| {
            (authorities, revocations, warnings)
        });
    let (listener, config) = (Listener::Public, Arc::new(settings));
    Ok(Loaded { listener, config, certificate, authorities, revocations, warnings, is_observing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::settings::{self, ClientUsage};
    use crate::receive::tls::Validity;
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use double::pki;
    use rustls::pki_types::CertificateDer;
    use std::{fs, path::Path, time::Duration};

    fn settings(folder: &Path) -> settings::Tls {
        settings::Tls {
            certificate: folder.join("certs/server.pem"),
            key: folder.join("certs/server.key"),
            may_generate: true,
            minimum_version: TlsVersion::V1_2,
            clients: ::settings::defaults().unwrap(),
        }
    }

    fn generated() -> (tempfile::TempDir, settings::Tls) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let identity = pki::self_signed_localhost().unwrap();
        pki::write_identity(&settings.certificate, &settings.key, &identity).unwrap();
        (folder, settings)
    }

    #[test]
    fn says_whom_a_certificate_names_and_until_when() {
        let (_folder, settings) = generated();
        let loaded = load(&settings).unwrap();
        assert_eq!(loaded.certificate.names, ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(loaded.certificate.validity(clock::now()), Validity::Good);
        assert!(loaded.authorities.is_empty());
    }

    #[test]
    fn takes_ecdsa_rsa_and_ed25519() {
        let (_folder, settings) = generated();
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            fs::write(&settings.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
            fs::write(&settings.key, key.serialize_pem()).unwrap();
            load(&settings).unwrap();
        }
    }

    #[test]
    fn each_problem_names_its_file_and_remedy() {
        let (folder, mut settings) = generated();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (certificate, key) = (fs::read(&settings.certificate).unwrap(), fs::read(&settings.key).unwrap());
        let said = |settings: &settings::Tls| {
            load(settings).unwrap_err().told().replace(&folder.path().display().to_string(), "")
        };
        let mut problems = Vec::new();

        fs::write(&settings.key, other).unwrap();
        problems.push(said(&settings));
        fs::write(&settings.key, "no key").unwrap();
        problems.push(said(&settings));
        fs::write(&settings.key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        problems.push(said(&settings));
        fs::remove_file(&settings.key).unwrap();
        problems.push(said(&settings));
        fs::write(&settings.key, key).unwrap();
        fs::write(&settings.certificate, "").unwrap();
        problems.push(said(&settings));
        fs::write(&settings.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        problems.push(said(&settings));
        fs::write(&settings.certificate, certificate).unwrap();
        settings.clients.mode = ClientMode::Required;
        problems.push(said(&settings));
        settings.clients.authorities = vec![folder.path().join("missing.pem")];
        problems.push(said(&settings));

        insta::assert_snapshot!(problems.join("\n"));
    }

    #[test]
    fn no_session_begins_with_data_and_observed_ones_are_not_resumed() {
        let (folder, mut settings) = generated();
        let loaded = load(&settings).unwrap();
        assert_eq!(loaded.config.max_early_data_size, 0);
        assert!(loaded.config.ticketer.enabled() && loaded.config.cert_decompressors.is_empty());
        settings.clients.mode = ClientMode::Observe;
        settings.clients.authorities = vec![folder.path().join("ca.pem")];
        let authority = pki::Authority::new("Ours").unwrap();
        fs::write(&settings.clients.authorities[0], authority.certificate_pem()).unwrap();
        let loaded = load(&settings).unwrap();
        assert!(!loaded.config.ticketer.enabled());
        assert_eq!((loaded.config.send_tls13_tickets, loaded.authorities.len()), (0, 1));
        assert!(!loaded.renewed().unwrap().config.ticketer.enabled());
    }

    /// (C6) What signs for anybody keeps nobody out.
    #[test]
    fn a_public_authority_needs_names_or_fingerprints() {
        let (folder, mut settings) = generated();
        let block = |der: &CertificateDer<'_>| {
            let text = BASE64.encode(der);
            ["-----BEGIN CERTIFICATE-----", &text, "-----END CERTIFICATE-----\n"].join("\n")
        };
        let bundle: String = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(block).collect();
        settings.clients.authorities = vec![folder.path().join("bundle.pem")];
        fs::write(&settings.clients.authorities[0], bundle).unwrap();
        for mode in [ClientMode::Observe, ClientMode::Required] {
            let mut settings = settings.clone();
            settings.clients.mode = mode;
            let said = |settings: &settings::Tls| load(settings).unwrap_err().told();
            assert!(said(&settings).contains("is public and signs certificates for anybody"), "{}", said(&settings));
            settings.clients.subjects = vec!["linxo".to_owned()];
            assert!(said(&settings).contains("tls.clients.names or tls.clients.fingerprints"));
            settings.clients.names = vec!["linxo.example".to_owned()];
            assert!(load(&settings).unwrap().authorities.len() > 50);
            settings.clients.usage = ClientUsage::Any;
            assert!(said(&settings).contains("set tls.clients.usage = \"client\""), "{}", said(&settings));
        }
    }

    #[test]
    fn revocation_lists_are_read_and_what_they_lack_is_said() {
        let (folder, mut settings) = generated();
        let (ours, theirs) = (pki::Authority::new("Ours").unwrap(), pki::Authority::new("Theirs").unwrap());
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let day = Duration::from_hours(24);
        let nothing: [&[u8]; 0] = [];
        let stale = ours.revocation_list(&nothing, clock::now().before(day)).unwrap();
        let fresh = ours.revocation_list(&nothing, clock::now().after(day)).unwrap();
        settings.clients.mode = ClientMode::Required;
        settings.clients.authorities = vec![put("a", ours.certificate_pem()), put("b", theirs.certificate_pem())];
        settings.clients.revocations = vec![put("lists", &stale)];
        let loaded = load(&settings).unwrap();
        assert_eq!(ended(&loaded.revocations, clock::now()).count(), 1);
        assert!(loaded.warnings.len() == 1 && loaded.warnings[0].contains("CN=Theirs"), "{:?}", loaded.warnings);

        put("lists", &format!("{stale}{fresh}"));
        let loaded = load(&settings).unwrap();
        assert_eq!(ended(&loaded.revocations, clock::now()).count(), 0, "the newer list takes its place");
        assert!(loaded.revocations[0].ends > loaded.revocations[1].ends);
        assert_eq!(loaded.revocations_end(), Some(loaded.revocations[0].ends), "the older one is of no account");
        put("lists", &format!("{stale}{fresh}{}", theirs.revocation_list(&nothing, clock::now().before(day)).unwrap()));
        let loaded = load(&settings).unwrap();
        let gone = ended(&loaded.revocations, clock::now()).map(|list| (list.issuer.as_str(), Some(list.ends)));
        assert_eq!(gone.collect::<Vec<_>>(), [("CN=Theirs", loaded.revocations_end())]);
        put("lists", ours.certificate_pem());
        assert!(load(&settings).unwrap_err().to_string().contains("holds no revocation list"));
        put("lists", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        assert!(load(&settings).unwrap_err().to_string().contains("cannot be read"));
    }
}
