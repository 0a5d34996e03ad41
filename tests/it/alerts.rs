//! Alert rules, runbook and dashboard fit together, and ask only for metrics that there are. What the rules mean is tried by
//! promtool (`.ci/alerts`).

use crate::{metrics::documented, readme::root};
use std::{collections::BTreeSet, fs};

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What follows a key in YAML, wherever it stands.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start().trim_start_matches("- ").strip_prefix(key)).map(str::trim)
}

fn alerts() -> Vec<String> {
    let found: Vec<String> = values(&read("deploy/alerts.yaml"), "alert:").map(str::to_owned).collect();
    assert!(found.len() > 20, "{found:?}");
    found
}

/// (F1) Whoever is woken finds a section that says what to do, and no section is of an alert that is gone.
#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let (rules, runbook) = (read("deploy/alerts.yaml"), read("docs/runbook.md"));
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(alerts(), sections, "in this order");
    let links: Vec<&str> = values(&rules, "runbook_url:").collect();
    let expected: Vec<String> =
        sections.iter().map(|name| format!("docs/runbook.md#{}", name.to_lowercase())).collect();
    assert_eq!(links, expected);
    for (name, section) in sections.iter().zip(runbook.split("\n## ").skip(1)) {
        for part in ["**Means:**", "**Look at:**", "**Do:**"] {
            assert!(section.contains(part), "{name} lacks {part}");
        }
    }
}

/// (F1) promtool is given a case in which an alert fires, and one in which it does not.
#[test]
fn every_alert_is_tried_firing_and_quiet() {
    let text = read("deploy/alerts.test.yaml");
    let cases: Vec<&str> = text.split("\n  - name: ").skip(1).collect();
    for alert in alerts() {
        let of = |ending: &str| {
            let name = format!("{alert} {ending}");
            cases.iter().find(|case| case.lines().next() == Some(&name)).unwrap_or_else(|| panic!("no case {name}"))
        };
        assert!(of("fires").contains(&format!("alertname: {alert}")) && of("fires").contains("exp_labels"), "{alert}");
        let quiet = of("is quiet");
        assert!(quiet.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert}");
    }
    assert_eq!(cases.len(), 2 * alerts().len());
}

/// The schema of an inbox's keys on PostgreSQL.
const KEYS: &str = "linxo_webhook_keys";

/// Every name in a text that can only be one of a metric.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| (word.starts_with("linxo_webhook_") || word.starts_with("process_")) && *word != KEYS;
    words.filter(is_metric).map(str::to_owned).collect()
}

/// (F8) A panel or an alert on a name that is misspelt would be empty for ever.
#[test]
fn alerts_dashboard_and_documents_ask_for_metrics_that_there_are() {
    let metrics = documented(&[]);
    let is_there = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| metrics.get(name.strip_suffix(ending)?));
        metrics.contains_key(name) || histogram.is_some_and(|(kind, _)| kind == "histogram")
    };
    let mut asked = BTreeSet::new();
    for path in ["deploy/alerts.yaml", "deploy/alerts.test.yaml", "deploy/dashboard.json", "docs/runbook.md"] {
        let found = names(&read(path));
        assert!(!found.is_empty(), "{path}");
        asked.extend(found.into_iter().map(|name| (path, name)));
    }
    for path in ["docs/operations.md", "docs/delivery.md", "docs/upgrading.md", "README.md"] {
        let found = names(&read(path));
        asked.extend(found.into_iter().filter(|name| name.contains("webhook")).map(|name| (path, name)));
    }
    let wrong: Vec<_> = asked.iter().filter(|(_, name)| !is_there(name)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_dashboard_is_one_that_grafana_can_read() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    for expression in &expressions {
        assert!(!names(expression).is_empty(), "{expression}");
        let count = |sign| expression.matches(sign).count();
        assert_eq!((count('('), count('{')), (count(')'), count('}')), "{expression}");
    }
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}
