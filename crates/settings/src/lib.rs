//! The engine of the configuration. It reads a TOML file and the environment into typed settings, reports every problem
//! at once, and writes the settings down again. It knows no section: each section is declared beside the module that
//! uses it.
//!
//! In: a [`Section`] (made by [`section!`]), a file, an environment. Out: the settings, or [`Problems`], each with key,
//! value (never that of a secret), place (`config/x.toml:12` or the variable's name), reason and hint. From the same
//! declarations come the [JSON schema](schema), the [reference](reference()) file and the [effective view](effective).
//!
//! A section is declared like this, once, and a new key is one more line:
//!
//! ```
//! use settings::{number, section, size, word, words};
//!
//! words! {
//!     /// What happens to strangers.
//!     pub enum Strangers {
//!         /// They are let in.
//!         Welcome = "welcome",
//!         /// They are refused.
//!         Refused = "refused",
//!     }
//! }
//!
//! section! {
//!     /// The door.
//!     pub struct Door {
//!         /// Whether strangers come in.
//!         pub strangers: Strangers = word().default("refused"),
//!         /// Guests at once.
//!         pub guests: usize = number().default("12").between("1", "100"),
//!         /// Memory for each guest.
//!         pub memory: u64 = size().default("1 MiB").between("1 KiB", "1 GiB"),
//!     }
//!     check(at) {
//!         if let (Ok(guests), Ok(strangers)) = (&guests, &strangers)
//!             && *guests > 50
//!             && *strangers == Strangers::Welcome
//!         {
//!             at.flawed("guests", "is more than fifty, where strangers are welcome".into());
//!         }
//!     }
//! }
//!
//! let reference = settings::reference::<Door>("");
//! assert!(reference.contains("# Guests at once. From 1 to 100.\nguests = 12\n"));
//! ```
//!
//! Modules, from the ground up; each uses only what stands above it:
//!
//! | module | what |
//! | --- | --- |
//! | `flaw` | why a value is not what it should be |
//! | [`units`], [`Networks`], [`urls`], [`postgres`] | texts that stand for durations, sizes, networks, destinations |
//! | `problem` | a flaw with its key and place; the report of all of them |
//! | `uses` | files that are named, and that one which is written has no other use |
//! | `keys` | what was declared: tables of keys, each with its facts |
//! | `tree`, `lines` | what was given: values, each with its place |
//! | `nearest`, `variables`, `gather` | from file and environment to the tree, unknown keys included |
//! | `places` | where each key was given, for those who find a problem later |
//! | `authorities` | what a file of authorities holds |
//! | `at`, `files`, `secrets`, `pairs` | reading values at one place of the tree |
//! | `page`, `part`, `section`, `words`, `kind`, `parts`, `variants` | how sections and keys are declared |
//! | `reference`, `schema`, `source` | what is made of the declarations |

mod at;
mod authorities;
mod files;
mod flaw;
mod gather;
mod keys;
mod kind;
mod lines;
mod nearest;
mod networks;
mod page;
mod pairs;
mod part;
mod parts;
mod places;
pub mod postgres;
mod problem;
mod reference;
mod schema;
mod secrets;
mod section;
mod source;
mod tree;
pub mod units;
pub mod urls;
mod uses;
mod variables;
mod variants;
mod words;

pub use at::{At, Read, Reported};
pub use flaw::Flaw;
pub use keys::{Branch, Facts, Key, Shape, Table, TableKind, Tables, Word};
pub use kind::{
    Kind, Number, address, address_or_off, authorities, certificate, duration, files, flag, networks, number, pairs,
    path, private_file, secret, secrets, size, switch, text, texts, url, word, words,
};
pub use nearest::one_of;
pub use networks::Networks;
pub use page::Page;
pub use pairs::{Given, Pair};
pub use part::{Part, part_of};
pub use parts::{aside, flat, optional, section, sections, sections_or_secret};
pub use places::Places;
pub use problem::{Place, Problem, Problems};
pub use reference::reference;
pub use schema::schema;
pub use secrets::header_safe;
pub use section::{Section, defaults, effective};
pub use source::{Loaded, Program, Source};
pub use words::Words;
