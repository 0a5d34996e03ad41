//! One line of a section's declaration: a key, or a section below it.

use crate::{
    at::{At, Read},
    keys::Branch,
    page::Page,
};

/// What stands behind the `=` of a declaration. Made by the functions of this crate ([`crate::number`],
/// [`crate::section()`], ...).
pub trait Part {
    /// What the field holds.
    type Out;

    /// Adds what is declared to the tables. `doc` is the field's comment.
    fn declare(&self, name: &'static str, doc: &str, branch: &mut Branch<'_>);

    /// Reads the value.
    ///
    /// # Errors
    /// The problem was recorded.
    fn read(&self, name: &str, at: &mut At<'_, '_>) -> Read<Self::Out>;

    /// Writes the value down.
    fn show(&self, name: &str, value: &Self::Out, page: &mut Page);
}

/// Says for which type of field a part is, so that the compiler need not guess. For [`crate::section!`].
pub fn part_of<T, P: Part<Out = T>>(part: P) -> P {
    part
}
