//! Writes certificates and keys to files: each whole or not at all, keys for their owner only from the first moment on.

use super::{error::Error, identity::Identity};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

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
    let folder = base::folder::of(path);
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
