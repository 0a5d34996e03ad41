//! Mistakes in files and variables, each with the exact problem: key, value, place, reason, hint. The sections are of this
//! test alone.
#![cfg(test)]

use settings::{
    Flaw, Loaded, Networks, Problems, Program, Section, Source, aside, duration, flag, flat, networks, number,
    optional, secret, secrets, section, sections, size, switch, text, texts, url, urls, variants, word, words,
};
use std::{fs, num::NonZeroU32, path::Path, time::Duration};

words! {
    /// How loud.
    enum Volume {
        /// A whisper.
        Low = "low",
        /// A shout.
        High = "high",
    }
}

section! {
    /// A bell.
    struct Bell {
        /// How loud it is.
        volume: Volume = word().default("low"),
        /// How often it rings, a day.
        rings: Option<NonZeroU32> = number().default("3").between("0", "99"),
        /// How long it rings.
        time: Duration = duration().default("5s").between("1s", "1m"),
        /// Whom it wakes.
        names: Vec<String> = texts(plain),
        /// Where it is heard.
        networks: Networks = networks(),
        /// Whether it is broken.
        is_broken("broken"): bool = switch(("no", "It rings."), ("yes", "It does not.")).default("no"),
        /// What opens it.
        pin: Option<base::secret::Secret> = secret(settings::header_safe).optional(),
        /// Set by `check`, and by nobody else.
        is_loud: bool = aside(),
        /// Its clapper.
        clapper: Clapper = section(),
    }
    check(at) {
        is_loud = Ok(volume == Ok(Volume::High));
        if is_broken == Ok(true) && volume == Ok(Volume::High) {
            at.flawed("volume", Flaw::new("is of no use to a broken bell", "mend the bell"));
        }
    }
}

section! {
    /// The clapper of the bell.
    struct Clapper {
        /// Its weight.
        weight: u64 = size().default("1 KiB"),
    }
}

section! {
    /// A door.
    struct Door {
        /// Its name.
        name: String = text(plain),
        /// What it is made of, and all that follows from that.
        made_of: Made = flat(),
    }
}

variants! {
    /// What a door is made of.
    enum Made by "of" {
        /// Trees.
        Wood(Wood) = "wood",
        /// Sand.
        Glass(Glass) = "glass",
    }
    later = ["steel"]
}

section! {
    /// Of wood.
    struct Wood {
        /// Which tree.
        tree: String = text(plain).default("oak"),
        /// How thick.
        thickness: u32 = number().default("30"),
    }
}

section! {
    /// Of glass.
    struct Glass {
        /// Where it was bought.
        shop: String = url(|text| urls::destination(text).map(Into::into)),
        /// How thick.
        thickness: u32 = number().default("3"),
        /// What opens it.
        key: Vec<base::secret::Secret> = secrets(settings::header_safe),
    }
}

section! {
    /// A garden.
    struct Garden {
        /// Trees in it.
        trees: usize = number().default("1"),
        /// Whether there is a fence.
        is_fenced("fenced"): bool = flag().default("true"),
    }
}

section! {
    /// A house.
    struct House {
        /// The bell.
        bell: Bell = section(),
        /// The garden.
        garden: Option<Garden> = optional("there is none"),
        /// The doors.
        doors("door"): Vec<Door> = sections("name", &[("name", "front"), ("of", "wood")]),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of several functions that check a text")]
fn plain(text: &str) -> Result<String, Flaw> {
    Ok(text.to_owned())
}

const PROGRAM: Program = Program { file: "there/is/none.toml", prefix: "HOUSE" };
const CANARY: &str = "canary-of-a-secret";

fn load_from<S: Section>(folder: &Path, toml: &str, variables: &[(&str, &str)]) -> Result<Loaded<S>, Problems> {
    let file = folder.join("house.toml");
    fs::write(&file, toml).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Source::new(PROGRAM, Some(&file), variables).load()
}

fn load<S: Section>(toml: &str, variables: &[(&str, &str)]) -> Result<Loaded<S>, Problems> {
    load_from(tempfile::tempdir().unwrap().path(), toml, variables)
}

/// The problems without their heading and without the folder of the file.
fn problems(toml: &str, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = load_from::<House>(folder.path(), toml, variables).unwrap_err().to_string();
    assert!(!text.contains(CANARY), "{text}");
    let text = text.replace(&format!("{}/", folder.path().display()), "");
    text.lines().skip(1).map(|line| &line[2..]).collect::<Vec<_>>().join("\n")
}

#[test]
fn mistakes_in_the_file() {
    for (toml, wanted) in [
        ("[bell]\nvolme = 1", "bell.volme (house.toml:2): is not a known key\n  hint: did you mean `volume`?"),
        ("\n[bel]", "bel (house.toml:2): is not a known key\n  hint: did you mean `bell`?"),
        (
            "[garden]\nweight = 1",
            "garden.weight (house.toml:2): is not a known key\n  hint: `weight` belongs to `bell.clapper`",
        ),
        // (F5) An entry of a list is called by its name.
        (
            "[[door]]\nname = \"front\"\nof = \"wood\"\nnmae = 1",
            "door \"front\".nmae (house.toml:4): is not a known key\n  hint: did you mean `name`?",
        ),
        ("xyz = 1", "xyz (house.toml:1): is not a known key\n  hint: known here: bell, garden, door"),
        (
            "[bell]\nvolume = \"mid\"",
            "bell.volume = \"mid\" (house.toml:2): is not one of the known words\n  hint: one of: low, high",
        ),
        ("[bell]\nrings = 100", "bell.rings = 100 (house.toml:2): is out of range\n  hint: from 0 to 99"),
        (
            "[bell]\n\ntime = 5",
            "bell.time = 5 (house.toml:3): has no unit\n  hint: write a duration such as \"250ms\", \"5s\" or \"1h 30m\"",
        ),
        (
            "[bell]\nnetworks = [\n \"10.0.0.1/8\"]",
            "bell.networks (house.toml:2): has the entry \"10.0.0.1/8\", which has bits behind its prefix; the network is \
             10.0.0.0/8\n  hint: write networks such as \"192.0.2.0/24\" or \"2001:db8::/32\", or single addresses",
        ),
        (
            "[bell]\nbroken = \"yes\"\nvolume = \"high\"",
            "bell.volume = \"high\" (house.toml:3): is of no use to a broken bell\n  hint: mend the bell",
        ),
        (
            "[bell]\npin = \"canary-of-a-secret\"",
            "bell.pin (house.toml:2): must not be written into the configuration itself\n  \
             hint: write { file = \"...\" } or { env = \"...\" }",
        ),
        (
            "[bell]\npin = { env = \"P\" }",
            "bell.pin (house.toml:2): names the variable P, which is not set\n  hint: give the service this variable, with the secret in it",
        ),
        (
            "[bell.pin]\nvault = \"x\"",
            "bell.pin (house.toml:2): cannot come from `vault`\n  hint: write { file = \"...\" } or { env = \"...\" }",
        ),
        ("[bell]\nclapper = 1", "bell.clapper (house.toml:2): is a section, not a value\n  hint: it holds: weight"),
        ("door = 1", "door (house.toml:1): must be a list of sections\n  hint: write [[door]]"),
        (
            "door = []",
            "door (house.toml:1): is an empty list\n  hint: add a [[door]], or remove the key for the default",
        ),
        ("[[door]]\nof = \"wood\"", "door.0.name (house.toml:1): is required\n  hint: Its name"),
        ("[[door]]\nname = \"front\"", "door \"front\".of (house.toml:1): is required\n  hint: one of: wood, glass"),
        (
            "[[door]]\nname = \"front\"\nof = \"steel\"",
            "door \"front\".of = \"steel\" (house.toml:3): is not available in this version\n  hint: one of: wood, glass",
        ),
        (
            "[[door]]\nname = \"front\"\nof = \"wood\"\nshop = \"https://a/?token=canary-of-a-secret\"",
            "door \"front\".shop (house.toml:4): is only for of = \"glass\"\n  hint: remove the key, or set of = \"glass\"",
        ),
        (
            "[bell]\nrings = 99999999999999999999",
            "house.toml:2: is not valid TOML: the number of `bell.rings` is too large\n  hint: write a smaller number",
        ),
    ] {
        assert_eq!(problems(toml, &[]), wanted, "{toml}");
    }
}

#[test]
fn mistakes_in_the_environment() {
    let none = "variables of this program begin with HOUSE__; unset this one";
    for (variable, wanted) in [
        (
            "HOUSE__BELL__VOLME",
            "bell.volme (HOUSE__BELL__VOLME): is not a known key\n  hint: did you mean HOUSE__BELL__VOLUME?",
        ),
        ("HOUSE__BEL__X", "bel.x (HOUSE__BEL__X): is not a known key\n  hint: did you mean `bell`?"),
        (
            "HOUSE__BELL",
            "bell (HOUSE__BELL): is a section, not a value\n  hint: it holds: volume, rings, time, names, networks, broken, pin, clapper",
        ),
        ("HOUSE_BELL__VOLUME", "HOUSE_BELL__VOLUME: means nothing\n  hint: did you mean HOUSE__BELL__VOLUME?"),
        (
            "HOUSE_BELL__CLAPPER__WEIGHT",
            "HOUSE_BELL__CLAPPER__WEIGHT: means nothing\n  hint: did you mean HOUSE__BELL__CLAPPER__WEIGHT?",
        ),
        (
            "HOUSE___BELL__VOLUME",
            "_bell.volume (HOUSE___BELL__VOLUME): is not a known key\n  hint: did you mean HOUSE__BELL__VOLUME?",
        ),
        ("house__bell__volume", "house__bell__volume: means nothing\n  hint: did you mean HOUSE__BELL__VOLUME?"),
        ("HOUSE_X__Y", &*format!("HOUSE_X__Y: means nothing\n  hint: {none}")),
        (
            "HOUSE__BELL_PIN__FILE",
            "bell_pin.file (HOUSE__BELL_PIN__FILE): is not a known key\n  hint: did you mean HOUSE__BELL__PIN__FILE?",
        ),
        ("HOUSE_BELL__PIN__FILE", "HOUSE_BELL__PIN__FILE: means nothing\n  hint: did you mean HOUSE__BELL__PIN__FILE?"),
        // (F5) Whatever stands first behind the prefix.
        ("HOUSE-BELL__VOLUME", "HOUSE-BELL__VOLUME: means nothing\n  hint: did you mean HOUSE__BELL__VOLUME?"),
        ("HOUSE.BELL__VOLUME", "HOUSE.BELL__VOLUME: means nothing\n  hint: did you mean HOUSE__BELL__VOLUME?"),
        ("HOUSEBELL__VOLUM", "HOUSEBELL__VOLUM: means nothing\n  hint: did you mean HOUSE__BELL__VOLUME?"),
        ("HOUSE_BEL__PINN__ENV", "HOUSE_BEL__PINN__ENV: means nothing\n  hint: did you mean HOUSE__BELL__PIN__ENV?"),
        (
            "HOUSE__DOOR__NAME",
            "door.name (HOUSE__DOOR__NAME): must have a number behind the name of the list\n  hint: write HOUSE__DOOR__0__NAME",
        ),
        (
            "HOUSE__DOOR__3__NAM",
            "door.3.nam (HOUSE__DOOR__3__NAM): is not a known key\n  hint: did you mean HOUSE__DOOR__3__NAME?",
        ),
        (
            "HOUSE__DOOR__3__NAME",
            "door.3 (HOUSE__DOOR__3__NAME): leaves a gap in the list\n  hint: the next number is 0",
        ),
        (
            "HOUSE__BELL__RINGS",
            "bell.rings = \"canary\" (HOUSE__BELL__RINGS): is not a whole number\n  hint: write a whole number such as 100",
        ),
        (
            "HOUSE__GARDEN__FENCED",
            "garden.fenced = \"canary\" (HOUSE__GARDEN__FENCED): is neither true nor false\n  \
             hint: write true or false, without quotation marks",
        ),
        (
            "HOUSE__BELL__PIN__FILE",
            "bell.pin (HOUSE__BELL__PIN__FILE): names the file canary, which cannot be read: No such file or directory (os error \
             2)\n  hint: the file holds the secret alone, as text; its path begins in the working directory",
        ),
        (
            "HOUSE__BELL__PIN__VAULT",
            "bell.pin (HOUSE__BELL__PIN__VAULT): cannot come from `vault`\n  hint: write { file = \"...\" } or { env = \"...\" }",
        ),
    ] {
        assert_eq!(problems("", &[(variable, "canary")]), wanted, "{variable}");
    }
}

#[test]
fn variables_that_are_not_meant_for_us_are_left_alone() {
    let kubernetes = [
        ("HOUSE_SERVICE_HOST", "10.0.0.1"),
        ("HOUSE_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
        ("HOUSE_CONFIG", "x"),
        ("OTHER__BELL__VOLME", "x"),
    ];
    assert_eq!(load::<House>("", &kubernetes).unwrap().settings, load::<House>("", &[]).unwrap().settings);
}

/// (F5) A variable with single underscores could be made by Kubernetes for a Service, so it is no error; one that is called as
/// a key is warned of.
#[test]
fn a_variable_with_single_underscores_is_warned_of_where_it_is_called_as_a_key() {
    let warnings = |name: &str| load::<House>("", &[(name, CANARY)]).unwrap().warnings;
    for (variable, meant) in [
        ("HOUSE_BELL_VOLUME", "HOUSE__BELL__VOLUME"),
        ("house_bell_clapper_weight", "HOUSE__BELL__CLAPPER__WEIGHT"),
        ("HOUSE_DOOR_3_NAME", "HOUSE__DOOR__3__NAME"),
        ("HOUSE_BELL_PIN_FILE", "HOUSE__BELL__PIN__FILE"),
    ] {
        assert_eq!(warnings(variable), [format!("{variable} is ignored: to set a key, write {meant}")]);
    }
    for variable in ["HOUSE_BELL_SERVICE_HOST", "HOUSE_BELL_PORT_80_TCP", "HOUSE_CONFIG", "HOUSE_BELL", "HOUSE_X"] {
        assert!(warnings(variable).is_empty(), "{variable}");
    }
}

/// What is found wrong with a value later has a place too.
#[test]
fn every_key_has_a_place() {
    let toml = "[bell]\n\nvolume = \"low\"\n[[door]]\nname = \"front\"\nof = \"wood\"\n";
    let places = load::<House>(toml, &[("HOUSE__DOOR__0__TREE", "ash")]).unwrap().places;
    let place = |key: &str| places.place(key).to_string().rsplit('/').next().unwrap().to_owned();
    assert_eq!(place("bell.volume"), "house.toml:3");
    assert_eq!(place("door \"front\".of"), "house.toml:6");
    assert_eq!(place("door \"front\".tree"), "HOUSE__DOOR__0__TREE");
    assert_eq!(place("bell.rings"), "");
}

#[test]
fn a_file_that_is_not_utf_8_is_placed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("house.toml");
    fs::write(&file, b"[bell]\nvolume = \"low\"\n# caf\xe9\n").unwrap();
    let none: [(String, String); 0] = [];
    let problems = Source::new(PROGRAM, Some(&file), none).load::<House>().unwrap_err().to_string();
    assert!(problems.contains("house.toml:3: is not valid UTF-8\n    hint: "), "{problems}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let toml = "[bell]\nnames = [\"one\"]\nvolume = \"high\"";
    let empty = [("HOUSE__BELL__NAMES", ""), ("HOUSE__BELL__VOLUME", ""), ("HOUSE__NO__SUCH", ""), ("HOUSE_X__Y", "")];
    let bell = load::<House>(toml, &empty).unwrap().settings.bell;
    assert_eq!((bell.names, bell.volume, bell.is_loud), (vec!["one".to_owned()], Volume::High, true));
}

#[test]
fn a_problem_names_the_variable_that_it_came_from() {
    // In the file, in the environment, and in both: the secret is named where its member is given.
    let toml = "[[door]]\nname = \"front\"\nof = \"glass\"\nshop = \"https://shop/\"\nkey = { env = \"UNSET\" }\n";
    let unset =
        "names the variable UNSET, which is not set\n  hint: give the service this variable, with the secret in it";
    assert_eq!(problems(toml, &[]), format!("door \"front\".key (house.toml:5): {unset}"));
    for (variable, key) in [("HOUSE__DOOR__0__KEY__FILE", "key"), ("HOUSE__DOOR__0__KEY__0__FILE", "key.0")] {
        let wanted = format!(
            "door \"front\".{key} ({variable}): names the file none, which cannot be read: No such file or directory (os \
             error 2)\n  hint: the file holds the secret alone, as text; its path begins in the working directory"
        );
        assert_eq!(problems(toml, &[(variable, "none")]), wanted);
    }
    let more = [
        ("HOUSE__DOOR__1__NAME", "back"),
        ("HOUSE__DOOR__1__OF", "glass"),
        ("HOUSE__DOOR__1__SHOP", "http://shop/"),
        ("HOUSE__DOOR__1__KEY__ENV", "UNSET"),
    ];
    assert_eq!(
        problems(&toml.replace("UNSET", "SET"), &[more.as_slice(), &[("SET", "a")]].concat()),
        "door \"back\".shop = \"http://shop/\" (HOUSE__DOOR__1__SHOP): is not encrypted\n  hint: bank data goes there: use \
         https://; http:// is only for localhost, 127.0.0.0/8 and [::1]\n\
         door \"back\".key (HOUSE__DOOR__1__KEY__ENV): names the variable UNSET, which is not set\n  hint: give the service this variable, with the secret in it"
    );
}

#[test]
fn a_secret_of_the_environment_replaces_that_of_the_file_as_a_whole() {
    let toml = "[[door]]\nname = \"front\"\nof = \"glass\"\nshop = \"https://shop/\"\nkey = ";
    for file in ["{ file = \"none\" }", "[{ env = \"A\" }, { env = \"B\" }]", "\"canary-of-a-secret\""] {
        for (variable, count) in [("HOUSE__DOOR__0__KEY__ENV", 1), ("HOUSE__DOOR__0__KEY__0__ENV", 1)] {
            let doors = load::<House>(&format!("{toml}{file}"), &[(variable, "C"), ("C", "c")]).unwrap().settings.doors;
            let [Door { made_of: Made::Glass(glass), .. }] = doors.as_slice() else { panic!("{doors:?}") };
            assert_eq!((glass.key.len(), glass.key[0].expose()), (count, "c"));
        }
    }
}

#[test]
fn variables_that_contradict_each_other_are_refused() {
    let clash = [("HOUSE__BELL__PIN", "x"), ("HOUSE__BELL__PIN__ENV", "C"), ("C", "c")];
    assert_eq!(
        problems("", &clash),
        "bell.pin (HOUSE__BELL__PIN): contradicts another variable, which sets the same key in parts\n  hint: unset one of \
         the variables"
    );
    let twice = [("HOUSE__BELL__PIN__FILE", "x"), ("HOUSE__BELL__PIN__ENV", "C")];
    assert!(problems("", &twice).contains("needs exactly one of `file` and `env`"));
    let case = [("HOUSE__BELL__RINGS", "1"), ("HOUSE__bell__rings", "2")];
    assert_eq!(problems("", &case), "the environment: some variables differ only in upper and lower case");
}

#[test]
fn a_flag_is_true_or_false_in_file_and_environment() {
    let is_fenced = |toml: &str, variables: &[(&str, &str)]| {
        load::<House>(toml, variables).unwrap().settings.garden.unwrap().is_fenced
    };
    assert!(is_fenced("[garden]", &[]) && is_fenced("[garden]\nfenced = true", &[]));
    assert!(!is_fenced("[garden]\nfenced = false", &[]));
    assert!(!is_fenced("[garden]\nfenced = true", &[("HOUSE__GARDEN__FENCED", "false")]));
}

#[test]
fn entries_of_lists_can_be_added_by_the_environment() {
    let toml = "[bell]\nnames = [\"one\"]\n[[door]]\nname = \"front\"\nof = \"wood\"\n";
    let variables = [
        ("HOUSE__BELL__NAMES__1", "two"),
        ("HOUSE__DOOR__0__TREE", "ash"),
        ("HOUSE__DOOR__1__NAME", "back"),
        ("HOUSE__DOOR__1__OF", "wood"),
    ];
    let house = load::<House>(toml, &variables).unwrap().settings;
    assert_eq!(house.bell.names, ["one", "two"]);
    let wood = |tree: &str| Made::Wood(Wood { tree: tree.to_owned(), thickness: 30 });
    assert_eq!(house.doors.iter().map(|door| &door.made_of).collect::<Vec<_>>(), [&wood("ash"), &wood("oak")]);
}

#[test]
fn all_problems_are_told_at_once() {
    let toml = "[bell]\nvolume = 1\nrings = 100\n[[door]]\nname = \"front\"\nof = \"wood\"\nthickness = \"x\"\n[x]";
    let problems = load::<House>(toml, &[("HOUSE__BELL__TIME", "1h")]).unwrap_err();
    let keys: Vec<_> = problems.keys().collect();
    assert_eq!(keys, ["x", "bell.volume", "bell.rings", "bell.time", "door \"front\".thickness"]);
}

#[test]
fn what_is_effective_is_laid_out_as_the_file_is() {
    let shown = |toml: &str| settings::effective(&load::<House>(toml, &[("P", CANARY)]).unwrap().settings);
    assert_eq!(
        shown("[bell]\npin = { env = \"P\" }\nnames = [\"a\\\"b\"]\n[garden]"),
        "[bell]\nvolume = \"low\"\nrings = 3\ntime = \"5s\"\nnames = [\"a\\\"b\"]\nnetworks = []\nbroken = \"no\"\npin = \
         \"***\"\n\n[bell.clapper]\nweight = \"1 KiB\"\n\n[garden]\ntrees = 1\nfenced = true\n\n[[door]]\nname = \"front\"\nof = \
         \"wood\"\ntree = \"oak\"\nthickness = 30\n"
    );
    assert!(shown("").contains("\n# [garden] is not set: there is none\n"));
    assert_eq!(shown(&shown("")), shown(""));
}

#[test]
fn the_reference_has_every_key() {
    insta::assert_snapshot!(settings::reference::<House>("A house.\nWrite it down."));
}

#[test]
fn the_reference_is_what_holds_without_a_file() {
    let reference = settings::reference::<House>("");
    assert_eq!(load::<House>(&reference, &[]).unwrap().settings, load::<House>("", &[]).unwrap().settings);
}

#[test]
fn the_schema_has_every_key() {
    let schema = settings::schema::<House>("House");
    let bell = &schema["properties"]["bell"]["properties"];
    assert_eq!(bell["rings"]["maximum"], 99);
    assert_eq!(bell["rings"]["default"], 3);
    assert_eq!(bell["volume"]["enum"], serde_json::json!(["low", "high"]));
    assert_eq!(bell["clapper"]["properties"]["weight"]["$ref"], "#/$defs/size");
    let fenced = &schema["properties"]["garden"]["properties"]["fenced"];
    assert_eq!((&fenced["type"], &fenced["default"]), (&"boolean".into(), &true.into()));
    let doors = &schema["properties"]["door"];
    assert_eq!(doors["items"]["required"], serde_json::json!(["name", "of"]));
    // A name of two variants has a schema for each.
    assert_eq!(
        doors["items"]["properties"]["thickness"]["anyOf"][1]["description"],
        "How thick. Only for of = \"glass\"."
    );
}

#[test]
fn a_section_has_defaults_of_its_own() {
    let bell: Bell = settings::defaults().unwrap();
    assert_eq!(bell, load::<House>("", &[]).unwrap().settings.bell);
    assert_eq!(settings::defaults::<Door>(), None, "its name is required");
}

#[test]
fn a_missing_file_is_a_problem_only_when_it_was_named() {
    let none: [(String, String); 0] = [];
    assert!(Source::new(PROGRAM, None, none.clone()).load::<House>().is_ok());
    let missing = Source::new(PROGRAM, Some("no/such.toml".as_ref()), none).load::<House>().unwrap_err().to_string();
    let wanted = "the configuration has a problem\n  no/such.toml: cannot be read: No such file or directory (os error 2)\n    \
         hint: name a file that this user may read with --config";
    assert_eq!(missing, wanted);
}
