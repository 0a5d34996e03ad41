//! What lies between this machine and the servers that it calls: names, and the difference of the clocks.

use super::{machine, report::Section};
use crate::config::Config;
use base::{clock::millis, outbound};
use linxo::Skew;
use std::{collections::BTreeSet, net::IpAddr, time::Duration};
use tokio::{net::lookup_host, time::timeout};
use url::Url;

/// For one name.
const PATIENCE: Duration = Duration::from_secs(5);
/// `Date` has whole seconds, and a request takes a while.
const LITTLE: Duration = Duration::from_secs(5);
/// Receivers of Standard Webhooks refuse signatures that are older than this.
const MUCH: Duration = Duration::from_mins(5);

/// Every name that is called, with what it resolves to.
pub(super) async fn names(config: &Config) -> Section {
    let mut section = Section::new("Names");
    let hosts = hosts(config);
    if hosts.is_empty() {
        section.ok("no server is called");
    }
    for (key, host) in hosts {
        let found = timeout(PATIENCE, lookup_host(host.as_str())).await;
        let found: Vec<IpAddr> = match found {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            Ok(Err(error)) => {
                section.fail(
                    format_args!("{key}: {host} does not resolve: {error}"),
                    "check the name in the configuration, and the resolver of this machine",
                );
                continue;
            }
            Err(_elapsed) => {
                section.fail(
                    format_args!("{key}: {host} was not resolved within {} s", PATIENCE.as_secs()),
                    "check the resolver of this machine",
                );
                continue;
            }
        };
        judge(&mut section, &key, &host, &found);
    }
    section
}

fn judge(section: &mut Section, key: &str, host: &str, found: &[IpAddr]) {
    let refused = found.iter().find_map(|address| Some((address, outbound::refusal(*address)?)));
    if let Some((address, why)) = refused {
        return section.error(
            format_args!("{key}: {host} resolves to {address}, which {why} and is never called"),
            "mend the name, or use another one",
        );
    }
    let family = match (found.iter().any(IpAddr::is_ipv4), found.iter().any(IpAddr::is_ipv6)) {
        (true, true) => "IPv4 and IPv6",
        (true, false) => "IPv4",
        (false, true) => "IPv6",
        (false, false) => {
            return section.fail(format_args!("{key}: {host} has no address"), "check the name in the configuration");
        }
    };
    let addresses: BTreeSet<String> = found.iter().map(ToString::to_string).collect();
    let addresses: Vec<String> = addresses.into_iter().collect();
    section.ok(format_args!("{key}: {host} is {} ({family})", addresses.join(", ")));
}

/// The servers of the configuration by the keys that name them.
fn hosts(config: &Config) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    if let Some(linxo) = &config.linxo {
        for (key, url) in linxo.servers() {
            hosts.extend(Url::parse(&url).ok().map(|url| (key.to_owned(), base::reach::host(&url))));
        }
    }
    for sink in &config.sinks {
        hosts.extend(sink.kind.server().map(|server| (format!("sink {:?}", sink.name.as_str()), server.host)));
    }
    hosts
}

/// The clock of this machine beside those of the vendor.
pub(super) async fn clock(config: &Config) -> Section {
    let mut section = Section::new("Clock");
    machine::clock(&mut section);
    match &config.linxo {
        None => section.note("not compared: there is no [linxo] section, so there is no server to ask"),
        Some(linxo) => {
            for (key, told) in linxo::skews(linxo).await {
                match told {
                    Ok(Some(skew)) => differs(&mut section, key, &skew),
                    Ok(None) => section.note(format_args!("not compared with {key}: its answer has no Date")),
                    Err(error) => section.note(format_args!("not compared with {key}: {}", base::error::chain(&error))),
                }
            }
        }
    }
    section
}

fn differs(section: &mut Section, key: &str, skew: &Skew) {
    let Skew { by, is_ahead, took } = *skew;
    let side = if is_ahead { "ahead of" } else { "behind" };
    let told = format!(
        "{}.{} s {side} the server of {key} (its answer took {} ms)",
        by.as_secs(),
        by.subsec_millis() / 100,
        millis(took)
    );
    let remedy = "synchronise the clock of this machine (systemd-timesyncd, chrony)";
    if by >= MUCH {
        section.fail(format_args!("{told}: receivers refuse deliveries that are signed at such a time"), remedy);
    } else if by > LITTLE + took {
        section.warn(told, remedy);
    } else {
        section.ok(format_args!("as the server of {key} has it, to {} s", LITTLE.as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::Level, *};

    #[test]
    fn addresses_are_told_with_their_family() {
        let told = |found: &[&str]| {
            let mut section = Section::new("Names");
            let found: Vec<IpAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
            judge(&mut section, "linxo.api", "api.example:443", &found);
            section.lines.remove(0)
        };
        let both = told(&["192.0.2.1", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(
            (both.level, both.text.as_str()),
            (Level::Ok, "linxo.api: api.example:443 is 192.0.2.1, 2001:db8::1 (IPv4 and IPv6)")
        );
        assert!(told(&["192.0.2.1"]).text.ends_with("(IPv4)") && told(&["2001:db8::1"]).text.ends_with("(IPv6)"));
        assert_eq!(told(&["169.254.169.254"]).level, Level::Error);
        assert_eq!(told(&[]).level, Level::Error);
    }

    #[test]
    fn differences_of_clocks_are_judged_by_what_they_break() {
        let level = |seconds| {
            let mut section = Section::new("Clock");
            let skew = Skew { by: Duration::from_secs(seconds), is_ahead: true, took: Duration::from_secs(1) };
            differs(&mut section, "linxo.api", &skew);
            section.lines.remove(0).level
        };
        assert_eq!(
            [0, 6, 7, 299, 300].map(level),
            [Level::Ok, Level::Ok, Level::Warning, Level::Warning, Level::Error]
        );
    }
}
