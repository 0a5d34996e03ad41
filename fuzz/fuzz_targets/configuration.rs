//! Configuration files: a configuration, or problems with a key each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::{cell::LazyCell, fs};

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a folder"));
}

fuzz_target!(|text: &str| {
    FOLDER.with(|folder| {
        let file = folder.path().join("linxo-webhook.toml");
        fs::write(&file, text).expect("a file");
        if let Err(problems) = linxo_webhook::config::load(Some(&file), []) {
            assert!(!problems.to_string().is_empty());
        }
    });
});
