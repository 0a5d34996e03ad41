//! Client certificates and protocol versions.

use super::support::{Client, EVENT, Site, Wanted, post};
use crate::config::TlsVersion;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn client_of(
    authority: &Authority,
    change: impl FnOnce(&mut CertificateParams),
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["sender.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "sender");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let certificate = params.signed_by(&key, authority).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// Sends an event; the status, or `None` when the handshake was refused.
async fn post_with(site: &Site, config: ClientConfig) -> Option<u16> {
    // With TLS 1.3 the caller's handshake is over before the server has seen its certificate.
    let mut client = Client(site.tls(config, b"http/1.1").await.ok()?);
    tokio::io::AsyncWriteExt::write_all(&mut client.0, post(EVENT).as_bytes()).await.ok()?;
    client.answer().await.map(|answer| answer.status)
}

#[tokio::test]
async fn only_a_certificate_of_the_authority_gets_an_answer() {
    let (ours, theirs) = (authority("Ours"), authority("Theirs"));
    let site = Site::start(Wanted { clients: Some(ours.pem()), ..Wanted::default() }).await;
    let versions: [&[_]; 2] = [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];
    for (round, version) in versions.iter().enumerate() {
        let with =
            |(chain, key): (Vec<_>, _)| site.client_builder_for(version).with_client_auth_cert(chain, key).unwrap();
        let good = client_of(&ours, |_| {});
        assert_eq!(post_with(&site, with(good)).await, Some(200));

        let expired = client_of(&ours, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let server = client_of(&ours, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        let none = site.client_builder_for(version).with_no_client_auth();
        assert_eq!(post_with(&site, none).await, None);
        assert_eq!(post_with(&site, with(client_of(&theirs, |_| {}))).await, None);
        assert_eq!(post_with(&site, with(expired)).await, None);
        assert_eq!(post_with(&site, with(server)).await, None);

        let count = round as u64 + 1;
        for reason in ["missing", "unknown_issuer", "expired", "purpose"] {
            let line = format!(r#"linxo_webhook_refused_total{{reason="client_certificate_{reason}"}}"#);
            assert_eq!(site.metric(&line), count, "{reason}");
        }
        assert_eq!(site.inbox.stored() as u64, count);
    }
    let sender = site.inbox.entries.lock().unwrap()[0].sender.clone().unwrap();
    let sender: serde_json::Value = serde_json::from_str(&sender).unwrap();
    let certificate = &sender["certificate"];
    assert!(certificate["subject"].as_str().unwrap().contains("CN=sender"));
    assert!(certificate["issuer"].as_str().unwrap().contains("CN=Ours"));
    assert_eq!(certificate["names"], serde_json::json!(["sender.example"]));
    assert_eq!(certificate["fingerprint"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_refused_certificate_is_told_by_an_alert() {
    let site = Site::start(Wanted { clients: Some(authority("Ours").pem()), ..Wanted::default() }).await;
    let mut stream = site.tls(site.client_builder().with_no_client_auth(), b"http/1.1").await.unwrap();
    let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn the_minimum_version_is_kept() {
    let site = Site::start(Wanted { minimum_version: TlsVersion::V1_3, ..Wanted::default() }).await;
    let old = site.client_builder_for(&[&rustls::version::TLS12]).with_no_client_auth();
    assert_eq!(post_with(&site, old).await, None);
    assert_eq!(site.metric(r#"linxo_webhook_refused_total{reason="tls_incompatible"}"#), 1);
    assert_eq!(post_with(&site, site.client_builder().with_no_client_auth()).await, Some(200));
}
