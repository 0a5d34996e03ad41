//! What a parked stage means to those behind it in its line.

use super::standing::Standing;

/// What a parked stage means to later ones of its line. Each sink has one; fetches resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// They pass it. When it goes on, it comes late.
    #[default]
    Resume,
    /// They wait until it is done or deleted.
    Strict,
}

impl Order {
    /// Of a sink that keeps strict order, or does not.
    #[must_use]
    pub const fn of(is_strict: bool) -> Self {
        if is_strict { Self::Strict } else { Self::Resume }
    }

    /// Whether a stage that stands so holds up later ones of its line.
    #[must_use]
    pub const fn holds(self, standing: Standing) -> bool {
        standing.is_in_line() || (matches!(self, Self::Strict) && matches!(standing, Standing::Parked))
    }
}

/// Whether later ones of the line are to be looked at, because one stood as the first and stands as the second now. Whether they may
/// move is for their line to say.
#[must_use]
pub(crate) const fn frees(was: Standing, is: Standing) -> bool {
    Order::Strict.holds(was) && !is.is_in_line()
}
