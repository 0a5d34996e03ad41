//! `check`: loads the configuration and the certificates that it names, looks at the inbox and its journal, shows what takes
//! effect, and says what is wrong.
//!
//! The effective configuration and the verdict go to standard output, warnings to standard error. Nothing is bound or
//! opened for writing. With `--online` the vendor is asked for a token, to see whether the credentials work.

use super::{Failure, Global, chain};
use crate::{
    config::{self, Tls},
    receive::tls,
};
use base::clock;
use linxo::{Disposition, Figures, credentials::FingerprintKey};
use prometheus_client::registry::Registry;
use std::io::Write;

/// Options of `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Ask the vendor for a token too, to see whether the credentials work
    #[arg(long)]
    pub online: bool,
}

/// Checks the configuration and prints the effective one.
///
/// # Errors
/// 78 with every problem at once, also when the vendor refuses the credentials; 75 when it cannot be asked now; 70 when the
/// output cannot be written.
pub async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    let certificate = certificate(&config.tls)?;
    let mut output = anstream::stdout();
    writeln!(output, "{}\ncallers are authenticated by: {}", config.effective(), config.authentication())?;
    writeln!(output, "{}", certificate.facts)?;
    let mut notes = anstream::stderr();
    let inbox = inbox::examine(&config.inbox);
    for warning in config.warnings.iter().chain(&certificate.warnings).chain(&inbox) {
        writeln!(notes, "warning: {warning}")?;
    }
    if args.online {
        match config.linxo {
            None => writeln!(notes, "warning: there is no [linxo] section, so there is nobody to ask")?,
            Some(linxo) => writeln!(output, "{}", ask_for_a_token(linxo).await?)?,
        }
    }
    writeln!(output, "configuration ok")?;
    Ok(())
}

async fn ask_for_a_token(config: config::Linxo) -> Result<&'static str, Failure> {
    // Nothing of this client is kept or shown, so any key will do, and its figures go into a registry that nobody reads.
    let (key, figures) = (FingerprintKey::new([0; 32]), Figures::new(&mut Registry::default()));
    let client = linxo::Client::new(config, key, figures).map_err(|error| Failure::configuration(chain(&error)))?;
    match client.check().await {
        Ok(()) => Ok("the vendor gave a token: the credentials work"),
        // Whose token to ask for is known only when an event names its user.
        Err(linxo::Error::NoCredentials(_)) => {
            Ok("tokens are asked for by user, so the credentials show with the first event")
        }
        Err(error) => {
            let message = chain(&error);
            Err(match error.disposition() {
                Disposition::Transient { .. } | Disposition::Paused { .. } => Failure::not_now(message),
                _ => Failure::configuration(format_args!("{message}\nhint: {}", error.remedy())),
            })
        }
    }
}

/// What is to be said of the certificates.
struct Certificates {
    facts: String,
    warnings: Vec<String>,
}

/// Loads certificates, key, authorities and revocations as `serve` does.
fn certificate(config: &Tls) -> Result<Certificates, Failure> {
    if config.may_generate && !config.certificate.exists() && !config.key.exists() {
        let facts = "certificate: for localhost, made when the service is first started".to_owned();
        return Ok(Certificates { facts, warnings: Vec::new() });
    }
    let loaded = tls::load(config).map_err(|error| Failure::configuration(chain(&error)))?;
    let now = clock::now();
    let tls::Certificate { subject, names, not_after, .. } = &loaded.certificate;
    let until = not_after.to_rfc3339().unwrap_or_default();
    let mut facts = format!("certificate: {subject}, for {}, valid until {until}", names.join(", "));
    for list in &loaded.revocations {
        let until = list.ends.to_rfc3339().unwrap_or_default();
        facts.extend(["\nrevocations: of ", &list.issuer, ", valid until ", &until]);
    }
    let mut warnings = loaded.warnings;
    warnings.extend(loaded.certificate.validity(now).problem());
    warnings.extend(tls::ended(&loaded.revocations, now).map(|list| {
        format!("the revocations of {} have ended: every client certificate of this authority is refused", list.issuer)
    }));
    Ok(Certificates { facts, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use double::pki;

    #[tokio::test]
    async fn ends_with_78_where_the_configuration_is_at_fault() {
        let global = Global { config: Some("no/such/file.toml".into()) };
        let failure = run(&Args::default(), &global).await.unwrap_err();
        assert_eq!(failure.code, 78);
        assert!(failure.message.contains("no/such/file.toml: cannot be read"), "{}", failure.message);
    }

    fn with_certificate(identity: &pki::Identity) -> (tempfile::TempDir, Global) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        pki::write_identity(&place.join("server.pem"), &place.join("server.key"), identity).unwrap();
        let text = format!("[tls]\ncertificate = \"{0}/server.pem\"\nkey = \"{0}/server.key\"\n", place.display());
        std::fs::write(place.join("linxo.toml"), text).unwrap();
        let config = Some(place.join("linxo.toml"));
        (folder, Global { config })
    }

    #[tokio::test]
    async fn loads_the_certificates_as_serve_does() {
        let authority = pki::Authority::new("Root").unwrap();
        let expired = authority.issue(&pki::Leaf::server(&["hooks.example"]).expired()).unwrap();
        let (folder, global) = with_certificate(&expired);
        run(&Args::default(), &global).await.unwrap();
        let Certificates { facts, warnings } = certificate(&global.load().unwrap().tls).unwrap();
        assert!(facts.contains("for hooks.example, valid until "), "{facts}");
        assert!(warnings[0].contains("has expired"), "{warnings:?}");

        let other = authority.server(&["hooks.example"]).unwrap();
        std::fs::write(folder.path().join("server.key"), other.key_pem).unwrap();
        let failure = run(&Args::default(), &global).await.unwrap_err();
        assert!(failure.code == 78 && failure.message.contains("does not belong"), "{}", failure.message);
    }

    #[tokio::test]
    async fn asks_for_a_token_where_it_is_told_to() {
        use double::{Settings, Simulator};
        let simulator = Simulator::start(Settings::default()).await.unwrap();
        let authority = pki::Authority::new("Root").unwrap();
        let (folder, global) = with_certificate(&authority.server(&["hooks.example"]).unwrap());
        let file = folder.path().join("linxo.toml");
        let before = std::fs::read_to_string(&file).unwrap();
        let with = |secret: &str| {
            std::fs::write(folder.path().join("secret"), secret).unwrap();
            let linxo = format!(
                "[linxo]\napi = \"{}\"\nauth = \"{}\"\nclient_id = \"demo\"\nclient_secret = {{ file = \"{}/secret\" }}\n",
                simulator.api_url(),
                simulator.auth_url(),
                folder.path().display()
            );
            std::fs::write(&file, format!("{before}{linxo}")).unwrap();
        };
        with("demo-secret");
        run(&Args { online: true }, &global).await.unwrap();
        assert_eq!(simulator.counters().tokens, 1);
        with("another-secret");
        run(&Args::default(), &global).await.unwrap();
        let failure = run(&Args { online: true }, &global).await.unwrap_err();
        assert!(failure.code == 78 && failure.message.contains("hint: "), "{}", failure.message);
        assert!(!failure.message.contains("another-secret"));
    }
}
