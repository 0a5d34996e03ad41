//! What a sink on standard output is told: nothing yet.

settings::section! {
    /// `[[sink]]` with type "stdout".
    pub struct Settings {}
}
