//! Mistakes in the configuration, as a table: `mistakes.txt`. The true program finds each, says where it is and what to do,
//! and ends with 78; and it finds all of them at once.

use crate::{readme::root, support::Site};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// At least so many.
const MOST: usize = 110;

/// One mistake.
struct Mistake {
    variables: Vec<(String, String)>,
    toml: String,
    /// The lines of the report behind its heading, without the blanks before them.
    report: Vec<String>,
}

fn mistakes() -> Vec<Mistake> {
    let text = fs::read_to_string(root().join("tests/it/mistakes.txt")).unwrap();
    let blocks = text.split("\n\n").skip(1).filter(|block| !block.trim_start().starts_with("# "));
    blocks
        .map(|block| {
            let (given, report) = block.split_once("-> ").unwrap_or_else(|| panic!("no report in:\n{block}"));
            let variable = |line: &str| line.strip_prefix("$ ")?.split_once('=').map(|(a, b)| (a.into(), b.into()));
            let toml: Vec<&str> = given.lines().filter(|line| !line.starts_with("$ ")).collect();
            Mistake {
                variables: given.lines().filter_map(variable).collect(),
                toml: toml.join("\n"),
                report: report.lines().map(|line| line.trim().to_owned()).collect(),
            }
        })
        .collect()
}

/// What the table's files name.
fn site() -> Site {
    let site = Site::new();
    let put = |name: &str, text: &str| {
        fs::write(site.path(name), text).unwrap();
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let client = site.authority().client("linxo.example", &["linxo.example"]).unwrap();
    put("certs/client.pem", &client.certificate_pem);
    put("certs/client.key", &client.key_pem);
    put("certs/ca.pem", site.authority().certificate_pem());
    put("notes.txt", "remember the milk\n");
    put("users.csv", "user_id,username,password\n1,a,b\n1,canary,c\n");
    for (name, secret) in [
        ("fine", "0123456789abcdef"),
        ("short", "canary"),
        ("empty", "\n"),
        ("slash", "canary-of-a-secret/"),
        ("space", "canary of a secret\n"),
        ("big", &"x".repeat(70_000)),
    ] {
        put(name, secret);
    }
    site
}

/// The report without its heading.
fn lines(told: &str) -> Vec<String> {
    told.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// (F2, F3, F5) Each mistake by itself: place, reason, remedy, exit code.
#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_place_and_its_remedy() {
    let site = site();
    let mistakes = mistakes();
    assert!(mistakes.len() >= MOST, "{}", mistakes.len());
    for Mistake { variables, toml, report } in mistakes {
        fs::write(site.path("linxo.toml"), &toml).unwrap();
        let mut command = site.default_command(&["check", "--config", "linxo.toml"]);
        let output = command.envs(variables.clone()).output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{toml}\n{variables:?}\n{told}");
        assert!(told.starts_with("error: the configuration has a problem\n"), "{toml}\n{told}");
        assert!(!told.contains("canary"), "{told}");
        assert_eq!(lines(&told), report, "{toml}\n{variables:?}");
        assert!(report.iter().any(|line| line.starts_with("hint: ")), "no remedy: {report:?}");
    }
}

/// (F2) All at once: what can stand in one file is told together, by `check` and `serve` alike.
#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_told_at_once() {
    let site = site();
    let toml = r#"
[listener]
adress = "0.0.0.0:8443"
path = "webhooks"
max_body = "8 MX"
idle_timeout = 5
[tls]
certificate = "notes.txt"
key = "missing.key"
[tls.clients]
mode = "required"
authorities = ["certs/client.pem"]
[sender]
path_secret = { file = "short" }
networks = ["linxo.com"]
[inbox]
url = "inbox.db"
[linxo]
api = "http://api.example/v2.1"
client_secret = "canary"
authorities = ["notes.txt"]
[linxo.users]
mode = "pasword"
[[sink]]
name = "one"
type = "file"
path = "x"
[[sink]]
name = "two"
type = "file"
path = "./x"
[[sink]]
name = "three"
type = "http"
url = "https://a/"
authorities = ["certs/client.pem"]
[admin]
address = "0.0.0.0:9090"
[log]
level = "loud"
"#;
    fs::write(site.path("linxo.toml"), toml).unwrap();
    for command in ["check", "serve"] {
        let mut command = site.default_command(&[command, "--config", "linxo.toml"]);
        command.env("LINXO_WEBHOOK_LOG__LEVEL", "info").env("LINXO_WEBHOOK__WORKER__CONCURRENCY", "many");
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.starts_with("error: the configuration has 21 problems\n") && !told.contains("canary"), "{told}");
        for start in [
            "LINXO_WEBHOOK_LOG__LEVEL: means nothing",
            "listener.adress (linxo.toml:3)",
            "listener.path = \"webhooks\" (linxo.toml:4)",
            "listener.max_body = \"8 MX\" (linxo.toml:5)",
            "listener.idle_timeout = 5 (linxo.toml:6)",
            "tls.certificate = \"notes.txt\" (linxo.toml:8)",
            "tls.key = \"missing.key\" (linxo.toml:9)",
            "tls.clients.authorities (linxo.toml:12)",
            "sender.path_secret (linxo.toml:14)",
            "sender.networks (linxo.toml:15)",
            "inbox.url = \"inbox.db\" (linxo.toml:17)",
            "worker.concurrency = \"many\" (LINXO_WEBHOOK__WORKER__CONCURRENCY)",
            "linxo.api = \"http://api.example/v2.1\" (linxo.toml:19)",
            "linxo.client_secret (linxo.toml:20)",
            "linxo.authorities (linxo.toml:21)",
            "linxo.users.mode = \"pasword\" (linxo.toml:23)",
            "sink \"two\".path = \"./x\" (linxo.toml:31)",
            "sink \"three\".authorities (linxo.toml:36)",
            "sink \"three\".secret (linxo.toml:32)",
            "admin.address = \"0.0.0.0:9090\" (linxo.toml:38)",
            "log.level = \"loud\" (linxo.toml:40)",
        ] {
            assert!(lines(&told).iter().any(|line| line.starts_with(start)), "no {start} in:\n{told}");
        }
    }
}
