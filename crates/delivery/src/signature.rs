//! Signs deliveries as Standard Webhooks says (specification 1.0.0, symmetric signatures). Pure; no clock.
//!
//! In: the configured secrets (`whsec_` and base64 of 24 to 64 random bytes), then id, timestamp and body of one attempt,
//! the body in any number of pieces. Out: the value of `webhook-signature`, one `v1,...` for each secret, so that a
//! receiver may change its secret without losing a delivery.

use base::secret::Secret;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Shortest key that the specification allows.
const SHORTEST: usize = 24;

/// The signature that a delivery must carry, for whoever receives one: `None` for a secret or time that cannot be read.
///
/// Compare the result with `webhook-signature` in constant time where the sender is not trusted.
#[must_use]
pub fn sign(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let signer = Signer::new(std::slice::from_ref(secret)).ok()?;
    let mut signing = signer.start(id, timestamp.parse().ok()?);
    signing.update(body);
    Some(signing.finish())
}

/// The active keys, ready to sign.
#[derive(Clone)]
pub(crate) struct Signer(Vec<Hmac<Sha256>>);

/// One signature in the making.
pub(crate) struct Signing(Vec<Hmac<Sha256>>);

/// Why a signing secret cannot be used. Never says what it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// Not base64 behind the prefix.
    #[error("a signing secret is not `whsec_` followed by base64")]
    NotBase64,
    /// Too easy to guess.
    #[error("a signing secret holds {0} bytes, and {SHORTEST} are the least")]
    TooShort(usize),
}

impl Signer {
    /// Reads the secrets, in the order in which their signatures are to be written. None: deliveries are not signed.
    pub(crate) fn new(secrets: &[Secret]) -> Result<Self, SecretError> {
        secrets.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is nothing to sign with.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins the signature of one attempt; `timestamp` in seconds since the epoch.
    pub(crate) fn start(&self, id: &str, timestamp: i64) -> Signing {
        let mut signing = Signing(self.0.clone());
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing
    }
}

impl Signing {
    /// Adds the next piece of the body.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        for mac in &mut self.0 {
            mac.update(piece);
        }
    }

    /// The header's value.
    pub(crate) fn finish(self) -> String {
        let signatures = self.0.into_iter().map(|mac| format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}

fn key(secret: &Secret) -> Result<Hmac<Sha256>, SecretError> {
    let text = secret.expose().trim();
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    // The decoder's error would quote a byte of the secret.
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_quotes_the_secret| SecretError::NotBase64)?);
    if bytes.len() < SHORTEST {
        return Err(SecretError::TooShort(bytes.len()));
    }
    Hmac::new_from_slice(&bytes).map_err(|_any_length_is_fine| SecretError::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDDVkTHDbtZPg=";

    fn signer(secrets: &[&str]) -> Result<Signer, SecretError> {
        Signer::new(&secrets.iter().map(|text| Secret::new((*text).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn agrees_with_the_example_of_the_specification() {
        let mut signing = signer(&[FIRST]).unwrap().start("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        signing.update(br#"{"test": 2432232314}"#);
        assert_eq!(signing.finish(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn refuses_weak_and_broken_secrets_without_quoting_them() {
        assert_eq!(signer(&["whsec_!!!"]).unwrap_err(), SecretError::NotBase64);
        assert_eq!(signer(&["whsec_c2hvcnQ="]).unwrap_err(), SecretError::TooShort(5));
        assert_eq!(signer(&[FIRST]).map(|signer| format!("{signer:?}")).unwrap(), "Signer(1 keys)");
    }

    #[test]
    fn reads_a_secret_without_prefix_and_with_a_line_feed() {
        let bare = format!("{}\n", FIRST.trim_start_matches("whsec_"));
        let sign = |secret: &str| signer(&[secret]).unwrap().start("id", 1).finish();
        assert_eq!(sign(&bare), sign(FIRST));
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference_library(id in "[!-~]{1,40}", body in "\\PC{0,200}", cut in 0_usize..200) {
            let now = base::clock::now().as_millis() / 1000;
            let mut signing = signer(&[SECOND, FIRST]).unwrap().start(&id, now);
            let (first, second) = body.as_bytes().split_at(cut.min(body.len()));
            signing.update(first);
            signing.update(second);
            let mut headers = http_headers(&id, now, &signing.finish());
            for secret in [FIRST, SECOND] {
                let reference = standardwebhooks::Webhook::new(secret).unwrap();
                prop_assert!(reference.verify(body.as_bytes(), &headers).is_ok());
            }
            headers.insert("webhook-timestamp", (now - 1).into());
            prop_assert!(standardwebhooks::Webhook::new(FIRST).unwrap().verify(body.as_bytes(), &headers).is_err());
        }
    }

    fn http_headers(id: &str, now: i64, signature: &str) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }
}
