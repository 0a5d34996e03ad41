//! `check`: finds before the start what would fail after it, shows what takes effect, and says what is wrong.
//!
//! Reads the configuration with its secrets and certificates, tries ports, folders and files as `serve` would need them
//! (`surroundings`), and with `--online` the servers that would be called (`online`). It changes nothing, and may be run beside
//! the service. The effective configuration and what was found go to standard output, warnings and notes to standard error.

mod findings;
mod online;
mod surroundings;

use super::{Failure, Global};
use crate::{
    admin::{Guards, settings::Admin},
    config::{Config, Problems, Tls},
    receive::tls,
};
use base::clock;
pub(super) use findings::Findings;
pub(super) use online::look as online;
use std::io::Write;

/// Options of `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Call the servers too: ask for a token, reach the API and the sinks; nothing is delivered
    #[arg(long)]
    pub online: bool,
    /// End with 78 where there are warnings; notes are none
    #[arg(long)]
    pub deny_warnings: bool,
}

/// Checks the configuration and prints the effective one.
///
/// # Errors
/// 78 with every problem at once, also when a server refuses the credentials, and for warnings where they are denied; 75 when a
/// server cannot be asked now; 70 when the output cannot be written.
pub async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    let mut found = find(&config).await;
    if args.online {
        online(&config, &mut found).await;
    }
    let printed = print(&config, &found);
    verdict(args, found)?;
    printed?;
    writeln!(anstream::stdout(), "configuration ok")?;
    Ok(())
}

/// What there is to find without calling a server.
pub(super) async fn find(config: &Config) -> Findings {
    let mut found =
        Findings { warnings: config.warnings.clone(), problems: config.ended.clone(), ..Findings::default() };
    certificates(&config.tls, &mut found);
    admin_certificate(&config.admin, &mut found);
    surroundings::look(config, &mut found).await;
    found
}

fn print(config: &Config, found: &Findings) -> Result<(), Failure> {
    let mut output = anstream::stdout();
    writeln!(output, "{}\ncallers are authenticated by: {}", config.effective(), config.authentication())?;
    for fact in &found.facts {
        writeln!(output, "{fact}")?;
    }
    let mut notes = anstream::stderr();
    for warning in &found.warnings {
        writeln!(notes, "warning: {warning}")?;
    }
    for note in &found.notes {
        writeln!(notes, "note: {note}")?;
    }
    Ok(())
}

fn verdict(args: &Args, found: Findings) -> Result<(), Failure> {
    let Findings { problems, warnings, troubles, .. } = found;
    let may_mend = problems.is_empty() && troubles.iter().all(|(_, may_mend)| *may_mend);
    let told: Vec<String> = Problems::of(problems)
        .iter()
        .map(ToString::to_string)
        .chain(troubles.into_iter().map(|(problem, _)| problem))
        .collect();
    if !told.is_empty() {
        let told = told.join("\n");
        return Err(if may_mend { Failure::not_now(told) } else { Failure::configuration(told) });
    }
    if args.deny_warnings && !warnings.is_empty() {
        let (count, s) = (warnings.len(), if warnings.len() == 1 { "" } else { "s" });
        return Err(Failure::configuration(format_args!(
            "{count} warning{s}, and --deny-warnings was given\nhint: mend what they name, or leave the option out"
        )));
    }
    Ok(())
}

/// What is to be said of certificates and revocations; what is wrong with them was said when the configuration was read.
fn certificates(config: &Tls, found: &mut Findings) {
    if config.may_generate && !config.certificate.exists() && !config.key.exists() {
        found.facts.push("certificate: for localhost, made when the service is first started".to_owned());
        return;
    }
    // It was loaded a moment ago.
    let Ok(loaded) = tls::load(config) else { return };
    let now = clock::now();
    let tls::Certificate { subject, names, not_after, .. } = &loaded.certificate;
    let until = not_after.to_rfc3339().unwrap_or_default();
    found.facts.push(format!("certificate: {subject}, for {}, valid until {until}", names.join(", ")));
    for list in &loaded.revocations {
        let until = list.ends.to_rfc3339().unwrap_or_default();
        found.facts.push(format!("revocations: of {}, valid until {until}", list.issuer));
    }
    let validity = loaded.certificate.validity(now);
    if validity != tls::Validity::Expired {
        found.warnings.extend(validity.problem());
    }
    found.warnings.extend(tls::ended(&loaded.revocations, now).map(|list| {
        format!("the revocations of {} have ended: every client certificate of this authority is refused", list.issuer)
    }));
    found.warnings.extend(loaded.warnings);
}

/// The same for the certificate of the admin listener.
fn admin_certificate(config: &Admin, found: &mut Findings) {
    // It was loaded a moment ago.
    let Ok(guards) = Guards::load(config) else { return };
    let Some(tls::Loaded { certificate, .. }) = guards.tls().filter(|_| config.address.is_some()) else { return };
    let tls::Certificate { subject, names, not_after, .. } = certificate;
    let until = not_after.to_rfc3339().unwrap_or_default();
    found
        .facts
        .push(format!("certificate of the admin listener: {subject}, for {}, valid until {until}", names.join(", ")));
    let validity = certificate.validity(clock::now());
    if validity != tls::Validity::Expired {
        found.warnings.extend(validity.problem().map(|problem| format!("admin listener: {problem}")));
    }
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
        let text = format!(
            "[listener]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"off\"\n[inbox]\nurl = \"sqlite:{0}/inbox.db\"\n\
             [tls]\ncertificate = \"{0}/server.pem\"\nkey = \"{0}/server.key\"\n",
            place.display()
        );
        std::fs::write(place.join("linxo.toml"), text).unwrap();
        let config = Some(place.join("linxo.toml"));
        (folder, Global { config })
    }

    /// (F3) A certificate that has ended is refused here, together with all else; `serve` starts with it.
    #[tokio::test]
    async fn refuses_a_certificate_that_has_ended() {
        let authority = pki::Authority::new("Root").unwrap();
        let expired = authority.issue(&pki::Leaf::server(&["hooks.example"]).expired()).unwrap();
        let (folder, global) = with_certificate(&expired);
        let config = global.load().unwrap();
        let mut found = Findings::default();
        certificates(&config.tls, &mut found);
        assert!(found.facts[0].contains("for hooks.example, valid until "), "{found:?}");
        let failure = run(&Args::default(), &global).await.unwrap_err();
        assert_eq!(failure.code, 78);
        assert!(failure.message.contains("linxo.toml:8): names the file "), "{}", failure.message);
        assert!(failure.message.contains("server.pem, whose certificate ended on "), "{}", failure.message);
        assert!(failure.message.contains("    hint: renew the certificate"), "{}", failure.message);

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
        run(&Args { online: true, ..Args::default() }, &global).await.unwrap();
        assert_eq!(simulator.counters().tokens, 1);
        with("another-secret");
        run(&Args::default(), &global).await.unwrap();
        let failure = run(&Args { online: true, ..Args::default() }, &global).await.unwrap_err();
        assert!(failure.code == 78 && failure.message.contains("hint: "), "{}", failure.message);
        assert!(!failure.message.contains("another-secret"));
    }
}
