//! Names with values: how they are read, what is wrong with them, how they are written down again.
#![cfg(test)]

use settings::{Flaw, Given, Pair, Program, Section, Source, effective, pairs, schema, section};
use std::fs;

section! {
    /// A parcel.
    struct Parcel {
        /// What is written on it.
        labels: Vec<Pair> = pairs(short).example("{ \"To\" = \"me\" }"),
    }
}

section! {
    /// The post.
    struct Post {
        /// The parcel.
        parcel: Parcel = settings::section(),
    }
}

const CANARY: &str = "canary-of-a-secret";

fn short(pair: &Pair) -> Result<(), Flaw> {
    if pair.name.len() > 9 {
        return Err(Flaw::new("has a long name", "write a short one"));
    }
    if pair.value.expose().len() > 20 { Err("has a long value".into()) } else { Ok(()) }
}

fn load(toml: &str) -> Result<Post, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("post.toml");
    fs::write(folder.path().join("secret"), CANARY).unwrap();
    let folder = folder.path().display().to_string();
    fs::write(&file, toml.replace("FOLDER", &folder)).unwrap();
    let program = Program { file: "there/is/none.toml", prefix: "POST" };
    let variables = [("LABEL".to_owned(), "from-a-variable".to_owned())];
    let loaded = Source::new(program, Some(&file), variables).load::<Post>();
    loaded.map(|loaded| loaded.settings).map_err(|problems| problems.to_string().replace(&format!("{folder}/"), ""))
}

#[test]
fn values_are_texts_or_secrets() {
    let post = load(
        "[parcel.labels]\nTo = \"me \\\"x\\\"\"\n\"X-Key\" = { file = \"FOLDER/secret\" }\nEnv = { env = \"LABEL\" }",
    )
    .unwrap();
    let read: Vec<_> = post.parcel.labels.iter().map(|pair| (pair.name.as_str(), pair.value.expose())).collect();
    assert_eq!(read, [("Env", "from-a-variable"), ("To", "me \"x\""), ("X-Key", CANARY)]);
    assert!(matches!(post.parcel.labels[1].value, Given::Text(_)) && post.parcel.labels[2].value.is_secret());
    let shown = effective(&post);
    assert_eq!(shown, "[parcel]\nlabels = { \"Env\" = \"***\", \"To\" = \"me \\\"x\\\"\", \"X-Key\" = \"***\" }\n");
    assert!(!format!("{post:?}").contains(CANARY));
    assert_eq!(load("").unwrap().parcel.labels, []);
    assert_eq!(effective(&load("").unwrap()), "[parcel]\n");
}

#[test]
fn each_mistake_names_the_pair_and_never_its_value() {
    for (toml, wanted) in [
        (
            "labels = \"x\"",
            "parcel.labels = \"x\" (post.toml:2): must be a table of names and values\n    hint: write a table",
        ),
        (
            "labels = { To = 5 }",
            "parcel.labels.To (post.toml:2): is neither a text nor a secret\n    hint: write \"a text\"",
        ),
        (
            "labels = { A-Long-Name = \"x\" }",
            "parcel.labels.A-Long-Name (post.toml:2): has a long name\n    hint: write a short one",
        ),
        ("labels = { To = \"canary-of-a-secret-that-is-long\" }", "parcel.labels.To (post.toml:2): has a long value"),
        (
            "labels = { To = { file = \"FOLDER/none\" } }",
            "parcel.labels.To (post.toml:2): names the file none, which cannot be read",
        ),
    ] {
        let report = load(&format!("[parcel]\n{toml}")).unwrap_err();
        assert!(report.contains(wanted), "{report}");
        assert!(!report.contains(CANARY), "{report}");
    }
}

#[test]
fn the_schema_and_the_reference_have_them() {
    let schema = schema::<Post>("post");
    let labels = &schema["properties"]["parcel"]["properties"]["labels"];
    assert_eq!(labels["additionalProperties"]["oneOf"][0]["type"], "string", "{labels}");
    assert!(settings::reference::<Post>("").contains("# labels = { \"To\" = \"me\" }\n"));
    assert!(settings::defaults::<Parcel>().is_some() && Parcel::DOC.contains("parcel"));
}
