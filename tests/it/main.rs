//! Everything that needs more than one module: one binary, by subject.

mod inbox;
mod support;
