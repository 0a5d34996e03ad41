//! What concerns sinks: whether they sign, and which files they write.

use super::*;
use std::os::unix::fs::symlink;

/// (C10) Deliveries are signed, or it is said that they are not.
#[test]
fn an_http_sink_has_a_secret_or_says_that_it_has_none() {
    let sink = |lines: &str| format!("[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a/\"\n{lines}");
    for lines in ["", "signed = true"] {
        let text = report(load_text(&sink(lines)));
        assert!(
            text.contains("sink \"a\".secret (test.toml:1): is required, because deliveries are signed\n"),
            "{text}"
        );
        assert!(text.contains("hint: write secret = ") && text.contains("or write signed = false"), "{text}");
    }
    let with = |lines: &str| load_with(&sink(lines), &[("S", SIGNING)]);
    let both = report(with("signed = false\nsecret = { env = \"S\" }"));
    let wanted = "sink \"a\".signed = false (test.toml:5): contradicts the `secret` beside it\n    hint: remove `signed` to sign";
    assert!(both.contains(wanted), "{both}");
    for (lines, is_signed) in [
        ("signed = false", false),
        ("secret = { env = \"S\" }", true),
        ("signed = true\nsecret = { env = \"S\" }", true),
    ] {
        let config = with(lines).unwrap();
        assert_eq!(config.sinks[0].kind.is_signed(), is_signed);
        assert!(config.effective().contains(&format!("\nsigned = {is_signed}\n")), "{}", config.effective());
    }
}

/// Whoever tried the service out with `listen` may take its secret along.
#[test]
fn the_secret_of_listen_is_warned_of() {
    let toml = "[[sink]]\nname = \"a\"\ntype = \"http\"\nurl = \"https://a/\"\nsecret = { env = \"S\" }";
    let warnings = |secret: &str| {
        let all = load_with(toml, &[("S", secret)]).unwrap().warnings;
        all.into_iter().filter(|warning| warning.contains("`listen`")).collect::<Vec<_>>()
    };
    let found = warnings(delivery::kinds::http::KNOWN_SECRET);
    assert!(found.len() == 1 && found[0].starts_with("sink a: secret is the one"), "{found:?}");
    assert_eq!(warnings(SIGNING), [""; 0]);
}

/// (E3) What a sink writes has no other use: not the inbox, not a key, not a secret, not the configuration, not another sink.
#[test]
fn a_sink_writes_no_file_that_is_used_otherwise() {
    let folder = folder();
    let place = folder.path().display().to_string();
    let (server, server_key) = pems::server();
    let [certificate, key, ca, secret, token] = [
        ("server.pem", server),
        ("server.key", server_key),
        ("ca", pems::authority()),
        ("secret", "0123456789abcdef"),
        ("token", SIGNING),
    ]
    .map(|(name, text)| put(&folder, name, text));
    let table = put(&folder, "users.csv", "user_id,username,password\n1,a,b\n");
    fs::hard_link(&key, folder.path().join("hard")).unwrap();
    symlink("inbox.db-wal", folder.path().join("soft")).unwrap();
    let file = folder.path().join("own.toml");
    let load_sink = |path: &str| {
        let toml = format!(
            "[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n[tls.clients]\nmode = \"required\"\n\
             authorities = [\"{ca}\"]\nrevocations = [\"{place}/crl\"]\n[sender]\npath_secret = {{ file = \"{secret}\" }}\n\
             [inbox]\nurl = \"sqlite:{place}/inbox.db\"\n\
             [linxo]\nclient_id = \"a\"\nclient_secret = {{ file = \"{secret}\" }}\nauthorities = [\"{place}/api-ca\"]\n\
             [linxo.users]\nmode = \"password\"\ntable = \"{table}\"\n\
             [[sink]]\nname = \"first\"\ntype = \"file\"\npath = \"{place}/first.ndjson\"\n\
             [[sink]]\nname = \"app\"\ntype = \"http\"\nurl = \"https://a/\"\nauthorities = [\"{place}/app-ca\"]\n\
             secret = {{ file = \"{token}\" }}\n\
             [[sink]]\nname = \"log\"\ntype = \"file\"\npath = \"{path}\"\n"
        );
        fs::write(&file, toml).unwrap();
        load(Some(&file), []).map_err(|problems| problems.to_string())
    };
    put(&folder, "crl", pems::revocations());
    for name in ["api-ca", "app-ca"] {
        put(&folder, name, pems::authority());
    }
    for (name, key) in [
        ("inbox.db", "inbox.url"),
        ("inbox.db-wal", "inbox.url"),
        ("inbox.db-shm", "inbox.url"),
        ("inbox.db.lock", "inbox.url"),
        ("soft", "inbox.url"),
        ("server.pem", "tls.certificate"),
        ("server.key", "tls.key"),
        ("hard", "tls.key"),
        ("ca", "tls.clients.authorities"),
        ("crl", "tls.clients.revocations"),
        ("secret", "sender.path_secret"),
        ("api-ca", "linxo.authorities"),
        ("users.csv", "linxo.users.table"),
        ("first.ndjson", "sink \"first\".path"),
        ("./first.ndjson", "sink \"first\".path"),
        ("app-ca", "sink \"app\".authorities"),
        ("token", "sink \"app\".secret"),
        ("own.toml", "the configuration"),
    ] {
        let text = load_sink(&format!("{place}/{name}")).unwrap_err();
        assert!(text.starts_with("the configuration has a problem\n  sink \"log\".path = "), "{name}: {text}");
        assert!(text.contains(&format!(": is used by {key} too\n    hint: name a file of its own")), "{name}: {text}");
    }
    put(&folder, "notes", "remember the milk");
    let text = load_sink(&format!("{place}/notes")).unwrap_err();
    assert!(
        text.contains("/notes, which holds something else than events from this service\n    hint: name a new"),
        "{text}"
    );
    load_sink(&format!("{place}/log.ndjson")).unwrap();
    put(&folder, "log.ndjson", "{\"specversion\":\"1.0\"}\n");
    load_sink(&format!("{place}/log.ndjson")).unwrap();
}
