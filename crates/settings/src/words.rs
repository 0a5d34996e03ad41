//! Keys that have one of a few words.

use crate::keys::Word;

/// A type whose values are words in the configuration. Made by [`words!`](crate::words!).
pub trait Words: Copy + PartialEq + 'static {
    /// Every value and its word, in the order of declaration.
    const WORDS: &'static [(Self, Word)];

    /// The word of this value.
    #[must_use]
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| *value == self).map_or("", |(_, word)| word.word)
    }

    /// The value of a word.
    #[must_use]
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, known)| known.word == word).map(|(value, _)| *value)
    }
}

/// Declares an enum whose variants are words in the configuration; each variant's comment says what its word means.
/// They are ordered as declared.
#[macro_export]
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        $visibility:vis enum $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $variant:ident = $word:literal
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        $visibility enum $name {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl $crate::Words for $name {
            const WORDS: &'static [(Self, $crate::Word)] = &[
                $( (Self::$variant, $crate::Word { word: $word, doc: concat!($($doc, "\n",)*) }), )*
            ];
        }
    };
}
