//! A section: its keys, how it is read, how it is written down. The macro [`section!`](crate::section!) makes all three
//! of one declaration.

use crate::{
    at::{At, Read, Reader},
    keys::{Branch, TableKind, Tables},
    page::Page,
    problem::Place,
    tree::{Content, Node},
};
use std::collections::{BTreeMap, HashMap};

/// A section of the configuration.
pub trait Section: Sized {
    /// Its comment.
    const DOC: &'static str;

    /// Adds its keys and the sections below it to the tables.
    fn declare(branch: &mut Branch<'_>);

    /// Reads it.
    ///
    /// # Errors
    /// A problem was recorded.
    fn read(at: &mut At<'_, '_>) -> Read<Self>;

    /// Writes it down.
    fn show(&self, page: &mut Page);
}

impl Tables {
    /// Everything that is declared in a section and below it, as if the section were the whole file.
    #[must_use]
    pub fn of<S: Section>() -> Self {
        let mut tables = Self::new(S::DOC);
        S::declare(&mut tables.branch());
        tables
    }
}

/// A section of which nothing was given. `None` where a key of it is required, or where a default does not hold here (a
/// file that must exist does not).
#[must_use]
pub fn defaults<S: Section>() -> Option<S> {
    const NAME: &str = "section";
    let mut tables = Tables::new("");
    S::declare(&mut tables.branch().table(NAME, S::DOC, TableKind::Once));
    let tree = Node { place: Place::Nowhere, content: Content::Table(BTreeMap::new()) };
    let environment = HashMap::new();
    let mut reader = Reader::new(&tree, &environment, &tables, Vec::new());
    let read = S::read(&mut reader.root().section(NAME)).ok();
    read.filter(|_| reader.problems.is_empty())
}

/// The settings, defaults included, laid out as the file is; secrets are `***`.
#[must_use]
pub fn effective<S: Section>(settings: &S) -> String {
    let mut page = Page::default();
    settings.show(&mut page);
    page.into_text()
}

/// Declares a section: a struct whose fields are its keys.
///
/// Each field has a comment (the key's description in the reference, the schema and the docs), a type, and behind `=`
/// what reads it: a [`Kind`](crate::Kind) such as `number().default("7")` for a key, or
/// [`section()`](crate::section()), [`optional`](crate::optional), [`sections`](crate::sections), [`flat`](crate::flat)
/// for what lies below. A field whose key has another name gives that in brackets: `sinks("sink"): Vec<Sink> = ...`.
/// Sections below stand behind the keys.
///
/// `check(at) { ... }` behind the struct holds what concerns several keys. There, each field is a variable that holds
/// `Ok` with its value, or `Err` where a problem with it was recorded already. What is wrong is recorded with
/// [`At::flawed`]. A field of [`aside`](crate::aside) may be set there.
///
/// The struct is made with `Clone`, `Debug`, `PartialEq` and `Eq`, and its fields as they are declared.
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $access:vis $field:ident $(($key:literal))? : $type:ty = $part:expr
            ),* $(,)?
        }
        $(check($at:ident) $check:block)?
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility struct $name {
            $( $(#[doc = $doc])* $access $field: $type, )*
        }

        impl $crate::Section for $name {
            const DOC: &'static str = concat!($($about, "\n",)*);

            #[allow(unused_variables, reason = "a section may have no key")]
            fn declare(branch: &mut $crate::Branch<'_>) {
                $(
                    $crate::Part::declare(
                        &$crate::part_of::<$type, _>($part),
                        $crate::key_name!($field $($key)?),
                        concat!($($doc, "\n",)*),
                        branch,
                    );
                )*
            }

            #[allow(unused_variables, unused_mut, reason = "a section may have no key, and `check` may set no field")]
            fn read(at: &mut $crate::At<'_, '_>) -> $crate::Read<Self> {
                $(
                    let mut $field: $crate::Read<$type> =
                        $crate::Part::read(&$crate::part_of::<$type, _>($part), $crate::key_name!($field $($key)?), at);
                )*
                $(
                    let $at: &mut $crate::At<'_, '_> = &mut *at;
                    $check
                )?
                Ok(Self { $( $field: $field?, )* })
            }

            #[allow(unused_variables, reason = "a section may have no key")]
            fn show(&self, page: &mut $crate::Page) {
                $(
                    $crate::Part::show(
                        &$crate::part_of::<$type, _>($part),
                        $crate::key_name!($field $($key)?),
                        &self.$field,
                        page,
                    );
                )*
            }
        }
    };
}

/// The name of a key in the file: that of its field, or the one in brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! key_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}
