//! `certs`: a throwaway authority with a server and a client certificate, for trying out mutual TLS.

use super::{Failure, chain};
use double::pki::{self, Authority, Existing, Leaf};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Options of `certs`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The files are for development: their authority exists nowhere else, and anyone who has its key can make more.

Examples:
  linxo-webhook certs
  linxo-webhook certs --dir /tmp/pki --name receiver.internal --name 10.0.0.5 --client linxo.example")]
pub struct Args {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "certs/dev")]
    pub dir: PathBuf,
    /// DNS name or IP address of the server; may be repeated [default: localhost and its addresses]
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// DNS name of the client, also its common name
    #[arg(long, value_name = "NAME", default_value = "linxo.example")]
    pub client: String,
    /// Replace certificates that are there
    #[arg(long)]
    pub force: bool,
}

/// Writes the six files.
///
/// # Errors
/// 64 when files are there already or a name is not valid, 70 when they cannot be written.
pub fn run(args: &Args) -> Result<(), Failure> {
    let names: Vec<&str> = match args.names.as_slice() {
        [] => vec!["localhost", "127.0.0.1", "::1"],
        names => names.iter().map(String::as_str).collect(),
    };
    let file = |name: &str| args.dir.join(name);
    let all = ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"];
    if let Some(taken) = all.iter().map(|name| file(name)).find(|path| path.exists())
        && !args.force
    {
        return Err(Failure::usage(format_args!(
            "{} exists already\nhint: choose another folder with --dir, or replace all six files with --force",
            taken.display()
        )));
    }
    let authority = Authority::new("linxo-webhook development authority").map_err(|error| ours(&error))?;
    let issue = |leaf: &Leaf| authority.issue(leaf).map_err(|error| Failure::usage(chain(&error)));
    let server = issue(&Leaf::server(&names))?;
    let client = issue(&Leaf::client(&args.client, &[&args.client]))?;
    let identities = [("ca", authority.identity()), ("server", server), ("client", client)];
    for (name, identity) in &identities {
        let (certificate, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
        let existing = if args.force { Existing::Replace } else { Existing::Refuse };
        pki::write_identity_over(&certificate, &key, identity, existing).map_err(|error| ours(&error))?;
    }
    Ok(explain(&args.dir, names.first().copied().unwrap_or("localhost"), &args.client, &mut io::stdout().lock())?)
}

fn explain(dir: &Path, server: &str, client: &str, out: &mut impl Write) -> io::Result<()> {
    let dir = dir.display();
    let host = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
    writeln!(
        out,
        "\
{dir}/ca.pem, ca.key          the authority: trust ca.pem, keep ca.key or throw it away
{dir}/server.pem, server.key  the receiver's certificate
{dir}/client.pem, client.key  a caller's certificate, for {client}

In the configuration:

[tls]
certificate = \"{dir}/server.pem\"
key = \"{dir}/server.key\"
[tls.clients]
mode = \"required\"
authorities = [\"{dir}/ca.pem\"]

To post an event:

linxo-webhook send --url https://{host}:8443/webhooks/linxo --ca {dir}/ca.pem --cert {dir}/client.pem --key {dir}/client.key
curl --cacert {dir}/ca.pem --cert {dir}/client.pem --key {dir}/client.key --json @event.json https://{host}:8443/webhooks/linxo"
    )
}

fn ours(error: &pki::Error) -> Failure {
    Failure::from_error(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use double::pki::Identity;

    fn args(dir: &Path) -> Args {
        Args { dir: dir.to_path_buf(), names: Vec::new(), client: "linxo.example".to_owned(), force: false }
    }

    #[test]
    fn writes_six_files_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        run(&args(&dir)).unwrap();
        for name in ["ca", "server", "client"] {
            Identity::read(&dir.join(format!("{name}.pem")), &dir.join(format!("{name}.key"))).unwrap();
        }
        let failure = run(&args(&dir)).unwrap_err();
        assert_eq!(failure.code, 64);
        assert!(failure.message.contains("hint: "));
        run(&Args { force: true, ..args(&dir) }).unwrap();
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = Args { names: vec!["hôte".to_owned()], ..args(folder.path()) };
        assert_eq!(run(&wrong).unwrap_err().code, 64);
    }
}
