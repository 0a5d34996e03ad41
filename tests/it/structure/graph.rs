//! Which file of a crate uses which other file of the same crate, and the circles in that.

use super::code::{Text, read, words};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module of a crate, by its path: empty for the root.
type Name = Vec<String>;

#[derive(Debug)]
struct Module {
    /// Where it stands; a module in braces stands in the file around it.
    file: String,
    text: Text,
}

/// The modules of one crate, without its tests.
#[derive(Debug, Default)]
pub(super) struct Crate {
    modules: BTreeMap<Name, Module>,
}

impl Crate {
    /// Reads a crate from its root file, by `mod name;`.
    pub(super) fn read(root: &Path) -> Self {
        let mut found = Self::default();
        let folder = root.parent().unwrap();
        let load = |path: &Path| fs::read_to_string(folder.join(path)).ok();
        found.load(Vec::new(), Path::new(root.file_name().unwrap()), Path::new(""), &load);
        found
    }

    /// A made-up crate, for tests of this file: paths and texts.
    fn of(files: &[(&str, &str)]) -> Self {
        let mut found = Self::default();
        let load =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        found.load(Vec::new(), Path::new("lib.rs"), Path::new(""), &load);
        found
    }

    /// Enters the module in `path`, and those that it names; the files of its own modules are in `folder`.
    fn load(&mut self, name: Name, path: &Path, folder: &Path, load: &impl Fn(&Path) -> Option<String>) {
        let text = load(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        self.enter(name, read(&words(&text)), path, folder, load);
    }

    fn enter(&mut self, name: Name, text: Text, path: &Path, folder: &Path, load: &impl Fn(&Path) -> Option<String>) {
        for (inside, text) in &text.inside {
            self.enter(under(&name, inside), text.clone(), path, &folder.join(inside), load);
        }
        for child in &text.files {
            let (flat, deep) = (folder.join(format!("{child}.rs")), folder.join(child).join("mod.rs"));
            let file: PathBuf = if load(&flat).is_some() { flat } else { deep };
            self.load(under(&name, child), &file, &folder.join(child), load);
        }
        self.modules.insert(name, Module { file: path.display().to_string(), text });
    }

    /// For each file, the files of the crate that it uses, itself left out.
    pub(super) fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, module) in &self.modules {
            let found = uses.entry(&module.file).or_default();
            // A module that is brought in by name is used through that name: its paths say which file is meant.
            let imports = module.text.imports.iter().map(|import| (&import.path, true));
            let paths = module.text.paths.iter().map(|path| (path, false));
            for (path, is_import) in imports.chain(paths) {
                match self.resolve(name, path, 0) {
                    Some(Target::Item(file)) => drop(found.insert(file)),
                    Some(Target::Module(target)) if !is_import => drop(found.insert(&self.modules[&target].file)),
                    _ => {}
                }
            }
            found.remove(module.file.as_str());
        }
        uses
    }

    /// What a path means, written in a module. `None`: something of another crate.
    fn resolve(&self, from: &Name, path: &[String], depth: u8) -> Option<Target<'_>> {
        assert!(depth < 32, "{from:?}: {path:?} leads in a circle");
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            name => match self.look_up(from, name, depth, true)? {
                Target::Module(module) => module,
                item @ Target::Item(_) => return Some(item),
            },
        };
        while let Some((name, behind)) = rest.split_first() {
            rest = behind;
            at = match name.as_str() {
                "super" => at.split_last()?.1.to_vec(),
                // All names of a module: the ones of its own file, at least.
                "*" => return Some(Target::Item(&self.modules.get(&at)?.file)),
                name => match self.look_up(&at, name, depth, false)? {
                    Target::Module(module) => module,
                    item @ Target::Item(_) => return Some(item),
                },
            };
        }
        Some(Target::Module(at))
    }

    /// What a name means inside of a module: a module in it, what a `use` brought in, or an item of its own file.
    ///
    /// `is_first`: the name begins a path, so that it may also be another crate, or an item nearby.
    fn look_up(&self, module: &Name, name: &str, depth: u8, is_first: bool) -> Option<Target<'_>> {
        let child = under(module, name);
        if self.modules.contains_key(&child) {
            return Some(Target::Module(child));
        }
        let here = self.modules.get(module)?;
        // Macros that are exported are names of the root, wherever they stand.
        if module.is_empty()
            && let Some(owner) = self.modules.values().find(|at| at.text.macros.iter().any(|of| of == name))
        {
            return Some(Target::Item(&owner.file));
        }
        if let Some(import) = here.text.imports.iter().find(|import| import.name == name) {
            // `use bytes::{self, ...}` of another crate.
            let is_itself = import.path.first().is_some_and(|first| first == name);
            return if is_itself { None } else { self.resolve(module, &import.path, depth + 1) };
        }
        (!is_first).then_some(Target::Item(&here.file))
    }
}

/// What a path leads to.
enum Target<'a> {
    Module(Name),
    /// An item, by its file.
    Item(&'a str),
}

fn under(module: &Name, name: &str) -> Name {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// A circle of uses, as a list of files that begins and ends with the same one, if there is any.
pub(super) fn circle(uses: &BTreeMap<&str, BTreeSet<&str>>) -> Option<Vec<String>> {
    fn visit<'a>(
        file: &'a str,
        uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|on| *on == file) {
            return Some(way[start..].iter().chain([&file]).map(|&file| file.to_owned()).collect());
        }
        if !done.insert(file) {
            return None;
        }
        way.push(file);
        let found = uses.get(file).into_iter().flatten().find_map(|next| visit(next, uses, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|file| visit(file, uses, &mut Vec::new(), &mut done))
}

#[test]
fn a_circle_is_found_through_names_that_are_handed_on() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use b::B;"),
        // Uses b.rs by a name that lib.rs hands on.
        ("a.rs", "use crate::B; pub struct A;"),
        ("b/mod.rs", "mod c; pub use c::B;"),
        ("b/c.rs", "pub struct B(super::super::a::A);"),
    ];
    let made = Crate::of(&files);
    assert_eq!(circle(&made.uses()).unwrap(), ["a.rs", "b/c.rs", "a.rs"]);
}

#[test]
fn handing_on_and_naming_modules_is_no_circle() {
    let files = [
        ("lib.rs", "mod a; mod b; pub use a::A;"),
        ("a.rs", "use crate::b; pub struct A; fn f() { b::c::g() } #[cfg(test)] mod tests { use crate::b::no; }"),
        // The head of b uses a; a uses only c.
        ("b/mod.rs", "pub mod c; use crate::a::A;"),
        ("b/c.rs", "pub fn g() {}"),
    ];
    let made = Crate::of(&files);
    let uses = made.uses();
    assert_eq!(circle(&uses), None);
    assert_eq!(uses["a.rs"], BTreeSet::from(["b/c.rs"]));
    assert_eq!(uses["b/mod.rs"], BTreeSet::from(["a.rs"]));
    assert_eq!(uses["lib.rs"], BTreeSet::from(["a.rs"]));
}
