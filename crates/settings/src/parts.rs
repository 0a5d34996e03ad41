//! What lies below a section: another section, a section that may be missing, a list of sections.

use crate::{
    at::{At, Read, Reported},
    flaw::Flaw,
    keys::{Branch, TableKind},
    page::Page,
    part::Part,
    secrets::Check,
    section::Section,
    tree::{Content, Node},
};
use base::secret::Secret;
use std::{collections::HashMap, marker::PhantomData};

/// A section of its own: `[name]`. Where nothing of it is given, its defaults hold.
#[must_use]
pub fn section<S: Section>() -> impl Part<Out = S> {
    Once(PhantomData)
}

struct Once<S>(PhantomData<S>);

impl<S: Section> Part for Once<S> {
    type Out = S;

    fn declare(&self, name: &'static str, _doc: &str, branch: &mut Branch<'_>) {
        S::declare(&mut branch.table(name, S::DOC, TableKind::Once));
    }

    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<S> {
        S::read(&mut at.section(name))
    }

    fn show(&self, name: &str, value: &S, page: &mut Page) {
        page.section(name, ("[", "]"), |page| value.show(page));
    }
}

/// A section that may be missing. `without` says what happens then: "truncated events are parked".
#[must_use]
pub fn optional<S: Section>(without: &'static str) -> impl Part<Out = Option<S>> {
    Optional(without, PhantomData)
}

struct Optional<S>(&'static str, PhantomData<S>);

impl<S: Section> Part for Optional<S> {
    type Out = Option<S>;

    fn declare(&self, name: &'static str, _doc: &str, branch: &mut Branch<'_>) {
        S::declare(&mut branch.table(name, S::DOC, TableKind::Optional));
    }

    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<Option<S>> {
        if at.is_given(name) { S::read(&mut at.section(name)).map(Some) } else { Ok(None) }
    }

    fn show(&self, name: &str, value: &Option<S>, page: &mut Page) {
        match value {
            Some(value) => page.section(name, ("[", "]"), |page| value.show(page)),
            None => page.remark(&format!("[{}] is not set: {}", page.below(name), self.0)),
        }
    }
}

/// A list of sections: `[[name]]`, never empty. The key `naming` gives each entry a name of its own, by which problems
/// call it. `default` has the keys of the only entry where no list is given.
#[must_use]
pub fn sections<S: Section>(
    naming: &'static str,
    default: &'static [(&'static str, &'static str)],
) -> impl Part<Out = Vec<S>> {
    List { naming, default, section: PhantomData }
}

struct List<S> {
    naming: &'static str,
    default: &'static [(&'static str, &'static str)],
    section: PhantomData<S>,
}

impl<S: Section> Part for List<S> {
    type Out = Vec<S>;

    fn declare(&self, name: &'static str, _doc: &str, branch: &mut Branch<'_>) {
        let kind = TableKind::List { naming: self.naming, default: self.default };
        S::declare(&mut branch.table(name, S::DOC, kind));
    }

    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<Vec<S>> {
        // Anything else than a list was reported when the tree was gathered.
        let Some(Node { content: Content::List(list), .. }) = at.node(name) else { return Err(Reported) };
        if list.is_empty() {
            let hint = format!("add a [[{name}]], or remove the key for the default");
            return Err(at.flawed(name, Flaw::new("is an empty list", hint)));
        }
        entries(name, self.naming, list, at)
    }

    fn show(&self, name: &str, value: &Vec<S>, page: &mut Page) {
        for section in value {
            page.section(name, ("[[", "]]"), |page| section.show(page));
        }
    }
}

/// Reads the entries of a list, each with a name of its own.
fn entries<S: Section>(name: &str, naming: &str, list: &[Node], at: &mut At<'_, '_>) -> Read<Vec<S>> {
    let mut sections: Vec<Read<S>> = Vec::new();
    for index in 0..list.len() {
        sections.push(S::read(&mut at.entry(name, naming, index)));
    }
    let mut first: HashMap<&str, &Node> = HashMap::new();
    for (index, entry) in list.iter().enumerate() {
        let Some(node) = entry.at(naming) else { continue };
        let Some(text) = node.text() else { continue };
        if let Some(other) = first.insert(text, node) {
            let reason = format!("is the {naming} of another one too (at {})", other.place);
            let title = at.title(name);
            let flaw = Flaw::new(reason, format!("give each [[{title}]] a {naming} of its own"));
            sections.push(Err(at.entry(name, naming, index).flawed(naming, flaw)));
        }
    }
    sections.into_iter().collect()
}

/// A list of sections, `[[name]]`, which may be empty. One secret alone may stand in its place, as `name = { file = "..." }`:
/// `alone` makes the only entry of it. The key `naming` gives each entry a name of its own, as for [`sections`].
#[must_use]
pub fn sections_or_secret<S: Section>(
    naming: &'static str,
    check: Check,
    alone: fn(Secret) -> S,
) -> impl Part<Out = Vec<S>> {
    ListOrSecret { naming, check, alone }
}

struct ListOrSecret<S> {
    naming: &'static str,
    check: Check,
    alone: fn(Secret) -> S,
}

impl<S: Section> Part for ListOrSecret<S> {
    type Out = Vec<S>;

    fn declare(&self, name: &'static str, _doc: &str, branch: &mut Branch<'_>) {
        S::declare(&mut branch.table(name, S::DOC, TableKind::ListOrSecret { naming: self.naming }));
    }

    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<Vec<S>> {
        match at.node(name).map(|node| &node.content) {
            None => Ok(Vec::new()),
            Some(Content::List(list)) => entries(name, self.naming, list, at),
            Some(_) => Ok(at.secret(name, self.check)?.map(self.alone).into_iter().collect()),
        }
    }

    fn show(&self, name: &str, value: &Vec<S>, page: &mut Page) {
        for section in value {
            page.section(name, ("[[", "]]"), |page| section.show(page));
        }
    }
}

/// Keys of another declaration among those of this section.
#[must_use]
pub fn flat<S: Section>() -> impl Part<Out = S> {
    Flat(PhantomData)
}

struct Flat<S>(PhantomData<S>);

impl<S: Section> Part for Flat<S> {
    type Out = S;

    fn declare(&self, _name: &'static str, _doc: &str, branch: &mut Branch<'_>) {
        S::declare(branch);
    }

    fn read(&self, _name: &str, at: &mut At<'_, '_>) -> Read<S> {
        S::read(at)
    }

    fn show(&self, _name: &str, value: &S, page: &mut Page) {
        value.show(page);
    }
}

/// A field that no key sets: it begins with its type's default, and is filled in after reading.
#[must_use]
pub fn aside<T: Default>() -> impl Part<Out = T> {
    Aside(PhantomData)
}

struct Aside<T>(PhantomData<T>);

impl<T: Default> Part for Aside<T> {
    type Out = T;

    fn declare(&self, _name: &'static str, _doc: &str, _branch: &mut Branch<'_>) {}

    fn read(&self, _name: &str, _at: &mut At<'_, '_>) -> Read<T> {
        Ok(T::default())
    }

    fn show(&self, _name: &str, _value: &T, _page: &mut Page) {}
}
