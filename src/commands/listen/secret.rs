//! The secrets that `listen` signs with: a file, a variable, or the well-known one.

use crate::commands::Failure;
use base::secret::Secret;
use delivery::kinds::http::KNOWN_SECRET;
use std::path::Path;

/// The variable that the consumers in `examples/` read, too.
const VARIABLE: &str = "WEBHOOK_SECRET";
/// What to do about one that cannot be used.
const HINT: &str = "make one with `echo whsec_$(openssl rand -base64 32)`";

/// What to sign with, and how to speak of it.
#[derive(Debug)]
pub(super) struct Secrets {
    /// One or more, the newest first.
    pub(super) values: Vec<Secret>,
    /// For the person at the terminal. Only the well-known one is named.
    pub(super) told: String,
}

/// The first that there is.
pub(super) fn find(file: Option<&Path>) -> Result<Secrets, Failure> {
    let (text, told) = match (file, std::env::var(VARIABLE)) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", file.display())))?;
            (text, format!("the secret in {}", file.display()))
        }
        (None, Ok(text)) if !text.trim().is_empty() => (text, format!("the secret in the variable {VARIABLE}")),
        _ => return Ok(known()),
    };
    let values: Vec<Secret> = text.split_whitespace().map(|word| Secret::new(word.to_owned())).collect();
    let is_one =
        |secret: &Secret| secret.expose().starts_with("whsec_") && delivery::sign(secret, "id", "1", b"").is_some();
    if values.is_empty() || !values.iter().all(is_one) {
        return Err(Failure::usage(format_args!(
            "{told} is not a Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 bytes\nhint: {HINT}"
        )));
    }
    Ok(Secrets { values, told })
}

fn known() -> Secrets {
    let told = format!(
        "{VARIABLE}={KNOWN_SECRET}, \
         which is the same at each start and known to everybody"
    );
    Secrets { values: vec![Secret::new(KNOWN_SECRET.to_owned())], told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_secret_or_several_and_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{KNOWN_SECRET}\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")).unwrap();
        let found = find(Some(&file)).unwrap();
        assert_eq!(found.values.len(), 2);
        assert!(!found.told.contains("whsec_"));
        for wrong in ["", "\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_!!!"] {
            std::fs::write(&file, wrong).unwrap();
            let failure = find(Some(&file)).unwrap_err();
            assert!(failure.code == 64 && failure.message.contains("openssl rand"), "{}", failure.message);
        }
        assert_eq!(find(Some(&folder.path().join("none"))).unwrap_err().code, 64);
    }
}
