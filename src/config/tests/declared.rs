//! What is declared: the reference that is made of it, and that each key and word is sound.

use super::*;
use settings::{Shape, Tables, units};
use std::collections::BTreeMap;

/// `BLESS=1 cargo test --lib config::tests::declared` writes the file.
#[test]
fn the_reference_is_what_the_declarations_say() {
    const FILE: &str = "config/linxo-webhook.toml";
    if std::env::var_os("BLESS").is_some() {
        fs::write(FILE, reference()).unwrap();
    }
    let shipped = fs::read_to_string(FILE).unwrap();
    let line = shipped.lines().zip(reference().lines()).position(|(shipped, made)| shipped != made);
    assert!(shipped == reference(), "{FILE} differs from line {:?} on: see CONTRIBUTING.md", line.map(|line| line + 1));
}

#[test]
fn the_documented_file_is_what_runs_without_one() {
    let shipped = load(Some(Path::new("config/linxo-webhook.toml")), []).unwrap();
    assert_eq!(shipped.effective(), load_text("").unwrap().effective());
    assert!(shipped.tls.may_generate);
}

/// The reference with everything switched on that can be: shows that its commented lines are right too.
#[test]
fn the_commented_lines_of_the_reference_load() {
    let tables = Tables::of::<Config>();
    let mut lines = Vec::new();
    let mut section = String::new();
    let mut seen = BTreeMap::new();
    for line in reference().lines() {
        let bare = line.trim_start_matches("# ");
        if let Some(title) = bare.strip_prefix('[') {
            section = title.trim_matches(['[', ']']).replace("sink", "sink.*").replace("admin.token", "admin.token.*");
            // Its files are not there.
            if section == "admin.tls" {
                section.clear();
            } else {
                lines.push(bare.to_owned());
            }
            continue;
        }
        let Some((name, _)) = bare.split_once(" = ") else { continue };
        let table = tables.iter().find(|table| table.path == section);
        let Some(table) = table else { continue };
        // Several kinds of sinks have a key of this name: they stand in the order of their declaration.
        let place = seen.entry(format!("{section}.{name}")).or_insert(0_usize);
        let Some(key) = table.keys.iter().filter(|key| key.name == name).nth(*place) else { continue };
        *place += 1;
        // One variant at a time, and no file that is not there.
        let is_other = key.only.is_some_and(|(_, word)| word != "http" || key.facts.shape == Shape::Path);
        match bare {
            "type = \"stdout\"" => lines.push("type = \"http\"".to_owned()),
            // An HTTP sink without its secret.
            "signed = true" => lines.push("signed = false".to_owned()),
            _ if is_other || bare.contains("file = ") || bare.contains("postgres-client") => {}
            _ => lines.push(bare.to_owned()),
        }
    }
    let config = load_with(&lines.join("\n"), &[("LINXO_CLIENT_SECRET", CANARY), ("ANNA_TOKEN", CANARY)]).unwrap();
    assert!(config.linxo.is_some() && matches!(config.sinks[0].kind, delivery::Kind::Http(_)));
}

#[test]
fn every_word_is_understood() {
    for table in Tables::of::<Config>().iter().filter(|table| !table.path.contains('*')) {
        for key in &table.keys {
            let Shape::Words(words) = &key.facts.shape else { continue };
            for word in words {
                let text = match load_text(&format!("[{}]\n{} = \"{}\"", table.path, key.name, word.word)) {
                    Ok(_) => String::new(),
                    Err(problems) => problems.to_string(),
                };
                assert!(!text.contains("is not one of"), "{} = {}", key.name, word.word);
            }
        }
    }
}

#[test]
fn limits_and_defaults_are_of_the_shape_of_their_key() {
    for table in Tables::of::<Config>().iter() {
        for key in &table.keys {
            let limits = key.facts.limits.into_iter().flat_map(|(least, most)| [least, most]);
            for text in key.facts.default.into_iter().chain(limits) {
                let fits = match &key.facts.shape {
                    Shape::Duration => units::duration(text).is_ok(),
                    Shape::Size => units::size(text).is_ok(),
                    Shape::Number => text.parse::<u64>().is_ok(),
                    Shape::Flag => text.parse::<bool>().is_ok(),
                    Shape::Words(words) => words.iter().any(|word| word.word == text),
                    _ => true,
                };
                assert!(fits, "{}: {text}", key.name);
            }
        }
    }
}

#[test]
fn every_key_and_word_says_what_it_means() {
    for table in Tables::of::<Config>().iter() {
        for key in &table.keys {
            assert!(key.doc.starts_with(char::is_uppercase) && key.doc.ends_with('.'), "{}: {}", key.name, key.doc);
            if let Shape::Words(words) = &key.facts.shape {
                assert!(words.iter().all(|word| word.doc.trim_end().ends_with('.')), "{}: {words:?}", key.name);
            }
        }
    }
}
