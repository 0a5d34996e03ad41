//! The certificate for `localhost` of a first start, so that the service can be tried without one.

use crate::receive::settings::Tls;
use double::pki;

/// Makes a certificate and its key where the configuration allows it and both files are absent. Returns whether it did;
/// warn then, because no vendor trusts it.
///
/// # Errors
/// The random source's or the disk's.
pub fn generate(settings: &Tls) -> Result<bool, pki::Error> {
    if !settings.may_generate || settings.certificate.exists() || settings.key.exists() {
        return Ok(false);
    }
    pki::write_identity(&settings.certificate, &settings.key, &pki::self_signed_localhost()?)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn settings(folder: &Path) -> Tls {
        let mut settings: Tls = ::settings::defaults().unwrap();
        settings.certificate = folder.join("server.pem");
        settings.key = folder.join("server.key");
        settings.may_generate = true;
        settings
    }

    #[test]
    fn generates_once_and_keeps_the_key_to_itself() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        assert!(generate(&settings).unwrap());
        assert_eq!(fs::metadata(&settings.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!generate(&settings).unwrap());
    }

    #[test]
    fn never_generates_beside_files_of_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        assert!(generate(&settings).unwrap());
        fs::remove_file(&settings.key).unwrap();
        assert!(!generate(&settings).unwrap());
        settings.may_generate = false;
        fs::remove_file(&settings.certificate).unwrap();
        assert!(!generate(&settings).unwrap());
    }
}
