//! Certificates as rustls judges them, and the files that they are written to.

use super::{leaf::DAY, *};
use base::clock;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{fs, io, os::unix::fs::PermissionsExt, sync::Arc};

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
