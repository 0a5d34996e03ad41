//! Kinds of keys: how a value is read, described and written down again. Each is made by a function, with what holds
//! for one key added behind it: `duration().default("5s").between("100ms", "5m")`.

use crate::{
    at::{At, Read, within},
    flaw::Flaw,
    keys::{Branch, Facts, Shape, Word},
    networks::{self, Networks},
    page::{Page, toml_list, toml_text},
    pairs::{Given, Pair, PairCheck},
    part::Part,
    problem::quoted,
    secrets::Check,
    units,
    words::Words,
};
use base::secret::Secret;
use std::{
    fmt::Display,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// What stands for a secret.
const HIDDEN: &str = "\"***\"";

/// How a value is read; `None` where nothing was given and there is no default.
type Reading<T> = Box<dyn Fn(&Facts, &str, &mut At<'_, '_>) -> Read<Option<T>>>;
/// How a value is written in the file; `None`: not at all.
type Showing<T> = Box<dyn Fn(&T) -> Option<String>>;

/// What is asked of a file that a key names.
#[derive(Clone, Copy)]
enum Must {
    BeReadable,
    BePrivate,
    HoldAuthorities,
    HoldACertificate,
}

impl Must {
    fn check(self, at: &mut At<'_, '_>, name: &str, file: &Path) -> Read<PathBuf> {
        match self {
            Self::BeReadable => at.must_be_readable(name, file),
            Self::BePrivate => at.must_be_private(name, file),
            Self::HoldAuthorities => at.must_hold_authorities(name, file),
            Self::HoldACertificate => at.must_hold_certificate(name, file),
        }
    }
}

/// A kind of key, and what holds for one key of it.
#[expect(missing_debug_implementations, reason = "it holds functions")]
pub struct Kind<T> {
    facts: Facts,
    read: Reading<T>,
    show: Showing<T>,
}

impl<T: 'static> Kind<T> {
    fn new(
        shape: Shape,
        read: impl Fn(&Facts, &str, &mut At<'_, '_>) -> Read<Option<T>> + 'static,
        show: impl Fn(&T) -> Option<String> + 'static,
    ) -> Self {
        let is_required = !(shape.is_list() || matches!(shape, Shape::Secrets | Shape::Pairs));
        let facts = Facts { shape, default: None, example: None, limits: None, later: &[], is_required };
        Self { facts, read: Box::new(read), show: Box::new(show) }
    }

    /// One text of the file, or the default, through a function.
    fn of_text(
        shape: Shape,
        parse: impl Fn(&Facts, &str) -> Result<T, Flaw> + 'static,
        show: impl Fn(&T) -> String + 'static,
    ) -> Self {
        let read =
            move |facts: &Facts, name: &str, at: &mut At<'_, '_>| at.parsed(facts, name, |text| parse(facts, text));
        Self::new(shape, read, move |value| Some(show(value)))
    }

    /// What holds where nothing was given, as it would be written in the environment.
    #[must_use]
    pub fn default(mut self, text: &'static str) -> Self {
        self.facts.default = Some(text);
        self.facts.is_required = false;
        self
    }

    /// A value for the reference where there is no default, as it would be written in the file.
    #[must_use]
    pub fn example(mut self, text: &'static str) -> Self {
        self.facts.example = Some(text);
        self
    }

    /// The smallest and the largest value.
    #[must_use]
    pub fn between(mut self, least: &'static str, most: &'static str) -> Self {
        self.facts.limits = Some((least, most));
        self
    }

    /// Words that will mean something in a later version.
    #[must_use]
    pub fn later(mut self, words: &'static [&'static str]) -> Self {
        self.facts.later = words;
        self
    }

    /// The key may be left out.
    #[must_use]
    pub fn optional(self) -> Kind<Option<T>> {
        let Self { mut facts, read, show } = self;
        facts.is_required = false;
        Kind {
            facts,
            read: Box::new(move |facts, name, at| read(facts, name, at).map(Some)),
            show: Box::new(move |value| show(value.as_ref()?)),
        }
    }
}

impl<T> Part for Kind<T> {
    type Out = T;

    fn declare(&self, name: &'static str, doc: &str, branch: &mut Branch<'_>) {
        branch.key(name, doc, self.facts.clone());
    }

    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<T> {
        match (self.read)(&self.facts, name, at)? {
            Some(value) => Ok(value),
            None => Err(at.flawed(name, "is required".into())),
        }
    }

    fn show(&self, name: &str, value: &T, page: &mut Page) {
        if let Some(value) = (self.show)(value) {
            page.key(name, &value);
        }
    }
}

/// Text, through a function that checks it and may turn it into something else.
pub fn text<T: Display + 'static>(parse: fn(&str) -> Result<T, Flaw>) -> Kind<T> {
    Kind::of_text(Shape::Text, move |_, text| parse(text), |value| toml_text(&value.to_string()))
}

/// A URL, through a function that checks it, such as those of [`urls`](crate::urls). It is shown without its query,
/// which may hold a token.
#[must_use]
pub fn url(parse: fn(&str) -> Result<String, Flaw>) -> Kind<String> {
    let show = |url: &String| match url.split_once('?') {
        Some((start, _)) => toml_text(&format!("{start}?***")),
        None => toml_text(url),
    };
    Kind::of_text(Shape::Url, move |_, text| parse(text), show)
}

/// One of the words of a type.
#[must_use]
pub fn word<W: Words>() -> Kind<W> {
    let known = W::WORDS.iter().map(|(_, word)| *word).collect();
    Kind::of_text(
        Shape::Words(known),
        |facts, text| known_word(facts, text, W::of_word(text)),
        |value| toml_text(value.word()),
    )
}

/// One of these words.
#[must_use]
pub fn words(known: &'static [Word]) -> Kind<&'static str> {
    let of = |text: &str| known.iter().map(|word| word.word).find(|word| *word == text);
    Kind::of_text(
        Shape::Words(known.to_vec()),
        move |facts, text| known_word(facts, text, of(text)),
        |word| toml_text(word),
    )
}

/// A switch with two words, each with what it means. `true` is the second word.
#[must_use]
pub fn switch(off: (&'static str, &'static str), on: (&'static str, &'static str)) -> Kind<bool> {
    let words = [off, on].map(|(word, doc)| Word { word, doc });
    let of = move |text: &str| [off.0, on.0].iter().position(|word| *word == text).map(|place| place == 1);
    Kind::of_text(
        Shape::Words(words.to_vec()),
        move |facts, text| known_word(facts, text, of(text)),
        move |is_on| toml_text(if *is_on { on.0 } else { off.0 }),
    )
}

fn known_word<T>(facts: &Facts, text: &str, value: Option<T>) -> Result<T, Flaw> {
    value.ok_or_else(|| {
        let is_later = facts.later.contains(&text);
        Flaw::from(if is_later { "is not available in this version" } else { "is not one of the known words" })
    })
}

/// `true` or `false`.
#[must_use]
pub fn flag() -> Kind<bool> {
    let parse = |_: &Facts, text: &str| text.parse().map_err(|_neither| Flaw::from("is neither true nor false"));
    Kind::of_text(Shape::Flag, parse, bool::to_string)
}

/// A type for whole numbers.
pub trait Number: Sized + 'static {
    /// The number; `None` where it is too large.
    fn of(number: u64) -> Option<Self>;

    /// As it is written.
    fn shown(&self) -> u64;
}

macro_rules! number {
    ($($type:ty)*) => {
        $(
            impl Number for $type {
                fn of(number: u64) -> Option<Self> {
                    number.try_into().ok()
                }

                fn shown(&self) -> u64 {
                    u64::try_from(*self).unwrap_or(u64::MAX)
                }
            }
        )*
    };
}
number!(u32 u64 usize);

/// 0 stands for none.
impl Number for Option<NonZeroU32> {
    fn of(number: u64) -> Option<Self> {
        number.try_into().ok().map(NonZeroU32::new)
    }

    fn shown(&self) -> u64 {
        self.map_or(0, |number| number.get().into())
    }
}

/// A whole number.
#[must_use]
pub fn number<N: Number>() -> Kind<N> {
    let parse = |facts: &Facts, text: &str| {
        let read = |text: &str| text.parse::<u64>().map_err(|_not_one| "is not a whole number".to_owned());
        N::of(within(facts, text, read)?).ok_or_else(|| "is too large".into())
    };
    Kind::of_text(Shape::Number, parse, |value: &N| value.shown().to_string())
}

/// A size in bytes, with its unit.
#[must_use]
pub fn size<N: Number>() -> Kind<N> {
    let parse =
        |facts: &Facts, text: &str| N::of(within(facts, text, units::size)?).ok_or_else(|| "is too large".into());
    Kind::of_text(Shape::Size, parse, |value: &N| toml_text(&units::show_size(value.shown())))
}

/// A duration, with its unit.
#[must_use]
pub fn duration() -> Kind<Duration> {
    let parse = |facts: &Facts, text: &str| within(facts, text, units::duration);
    Kind::of_text(Shape::Duration, parse, |value| toml_text(&units::show_duration(*value)))
}

/// An address to bind.
#[must_use]
pub fn address() -> Kind<SocketAddr> {
    Kind::of_text(Shape::Address, |_, text| socket_address(text), |value| toml_text(&value.to_string()))
}

/// An address to bind, or `None` for `off`.
#[must_use]
pub fn address_or_off() -> Kind<Option<SocketAddr>> {
    let parse = |_: &Facts, text: &str| if text == "off" { Ok(None) } else { socket_address(text).map(Some) };
    let show =
        |value: &Option<SocketAddr>| toml_text(&value.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    Kind::of_text(Shape::AddressOrOff, parse, show)
}

fn socket_address(text: &str) -> Result<SocketAddr, Flaw> {
    text.parse().map_err(|_not_one| Flaw::from("is not an IP address with a port"))
}

/// A path; whether there is something is for the section's `check` to say.
#[must_use]
pub fn path() -> Kind<PathBuf> {
    Kind::of_text(Shape::Path, |_, text| Ok(PathBuf::from(text)), |path| toml_text(&path.display().to_string()))
}

/// A PEM file with somebody's certificate.
#[must_use]
pub fn certificate() -> Kind<PathBuf> {
    checked_file(Must::HoldACertificate)
}

/// A file that can be read and should be private.
#[must_use]
pub fn private_file() -> Kind<PathBuf> {
    checked_file(Must::BePrivate)
}

fn checked_file(must: Must) -> Kind<PathBuf> {
    let Kind { facts, read, show } = path();
    let read: Reading<PathBuf> = Box::new(move |facts, name, at| match read(facts, name, at)? {
        Some(path) => must.check(at, name, &path).map(Some),
        None => Ok(None),
    });
    Kind { facts, read, show }
}

/// A list of files that can be read.
#[must_use]
pub fn files() -> Kind<Vec<PathBuf>> {
    checked_files(Must::BeReadable)
}

/// A list of PEM files with certificates of authorities.
#[must_use]
pub fn authorities() -> Kind<Vec<PathBuf>> {
    checked_files(Must::HoldAuthorities)
}

fn checked_files(must: Must) -> Kind<Vec<PathBuf>> {
    let read = move |_: &Facts, name: &str, at: &mut At<'_, '_>| {
        let list = at.list(name)?;
        let files: Vec<_> = list.into_iter().map(|file| must.check(at, name, Path::new(file))).collect();
        files.into_iter().collect::<Read<Vec<_>>>().map(Some)
    };
    Kind::new(Shape::Paths, read, |paths: &Vec<PathBuf>| Some(toml_list(paths.iter().map(|path| path.display()))))
}

/// A list of texts, each through a function.
pub fn texts<T: Display + 'static>(parse: fn(&str) -> Result<T, Flaw>) -> Kind<Vec<T>> {
    let read = move |_: &Facts, name: &str, at: &mut At<'_, '_>| {
        let mut texts = Vec::new();
        for text in at.list(name)? {
            let text = parse(text).map_err(|flaw| {
                // Credentials may stand before the `@` or behind the `?` of a URL.
                let hides = text.contains("://") && text.contains(['@', '?']);
                let entry = if hides { "an entry".to_owned() } else { quoted(text) };
                let reason = format!("holds {entry}, which {}", flaw.reason);
                at.flawed(name, Flaw { reason, hint: flaw.hint })
            })?;
            texts.push(text);
        }
        Ok(Some(texts))
    };
    Kind::new(Shape::Texts, read, |texts: &Vec<T>| Some(toml_list(texts)))
}

/// A list of networks.
#[must_use]
pub fn networks() -> Kind<Networks> {
    let read = |_: &Facts, name: &str, at: &mut At<'_, '_>| {
        let list = at.list(name)?;
        let networks = list.into_iter().map(|text| {
            networks::network(text).map_err(|flaw| {
                let hint = "write networks such as \"192.0.2.0/24\" or \"2001:db8::/32\", or single addresses";
                at.flawed(name, Flaw::new(format!("has the entry {}, which {flaw}", quoted(text)), hint))
            })
        });
        let networks = networks.collect::<Vec<_>>();
        networks.into_iter().collect::<Read<Networks>>().map(Some)
    };
    Kind::new(Shape::Networks, read, |networks: &Networks| Some(toml_list(networks.iter())))
}

/// A secret, checked by a function.
#[must_use]
pub fn secret(check: Check) -> Kind<Secret> {
    Kind::new(Shape::Secret, move |_, name, at| at.secret(name, check), |_| Some(HIDDEN.to_owned()))
}

/// Secrets that are valid side by side, the newest first, each checked by a function. The list is empty where none was given.
#[must_use]
pub fn secrets(check: Check) -> Kind<Vec<Secret>> {
    // How many there are, and nothing of them.
    let show = |secrets: &Vec<Secret>| match secrets.as_slice() {
        [] => None,
        [_] => Some(HIDDEN.to_owned()),
        several => Some(format!("[{}]", vec![HIDDEN; several.len()].join(", "))),
    };
    Kind::new(Shape::Secrets, move |_, name, at| at.secrets(name, check).map(Some), show)
}

/// Names with values, each a text or a secret, and each pair checked by a function. None where nothing was given.
#[must_use]
pub fn pairs(check: PairCheck) -> Kind<Vec<Pair>> {
    let show = |pairs: &Vec<Pair>| {
        let pair = |Pair { name, value }: &Pair| match value {
            Given::Text(text) => format!("{} = {}", toml_text(name), toml_text(text)),
            Given::Secret(_) => format!("{} = {HIDDEN}", toml_text(name)),
        };
        (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", ")))
    };
    Kind::new(Shape::Pairs, move |_, name, at| at.pairs(name, check).map(Some), show)
}
