//! Sections of which a key decides what other keys there are: `type` of a sink, `mode` of the users.

/// Declares an enum of sections. The key behind `by` has the word of one variant, and only the keys of that variant's
/// section may be given beside it. `= "..."` behind the key is its default; `later = [...]` behind the enum names words
/// that will mean something in a later version.
///
/// Use it with [`flat`](crate::flat) beside other keys, or with [`section()`](crate::section()) as a section of its
/// own.
#[macro_export]
macro_rules! variants {
    (
        $(#[doc = $about:literal])*
        $visibility:vis enum $name:ident by $tag:literal $(= $default:literal)? {
            $(
                $(#[doc = $doc:literal])*
                $variant:ident($inner:ty) = $word:literal
            ),* $(,)?
        }
        $(later = [$($later:literal),* $(,)?])?
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $( $(#[doc = $doc])* $variant($inner), )*
        }

        impl $name {
            /// The word of this variant in the configuration.
            #[must_use]
            pub fn word(&self) -> &'static str {
                match self {
                    $( Self::$variant(_) => $word, )*
                }
            }

            fn tag() -> $crate::Kind<&'static str> {
                $crate::words(&[$( $crate::Word { word: $word, doc: concat!($($doc, "\n",)*) }, )*])
                    $(.default($default))?
                    $(.later(&[$($later),*]))?
            }
        }

        impl $crate::Section for $name {
            const DOC: &'static str = concat!($($about, "\n",)*);

            fn declare(branch: &mut $crate::Branch<'_>) {
                $crate::Part::declare(&Self::tag(), $tag, Self::DOC, branch);
                $( <$inner as $crate::Section>::declare(&mut branch.only($tag, $word)); )*
            }

            fn read(at: &mut $crate::At<'_, '_>) -> $crate::Read<Self> {
                let word = $crate::Part::read(&Self::tag(), $tag, at)?;
                at.refuse_misplaced($tag, word);
                match word {
                    $( $word => <$inner as $crate::Section>::read(at).map(Self::$variant), )*
                    // The words that `tag` knows are those above.
                    _ => Err($crate::Reported),
                }
            }

            fn show(&self, page: &mut $crate::Page) {
                $crate::Part::show(&Self::tag(), $tag, &self.word(), page);
                match self {
                    $( Self::$variant(inner) => $crate::Section::show(inner, page), )*
                }
            }
        }
    };
}
