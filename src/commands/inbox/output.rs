//! How data of the inbox reaches standard output.

use super::view::{self, Width};
use crate::commands::{Failure, guest::note};
use std::{
    io::{self, IsTerminal as _, Write},
    ops::ControlFlow,
};

/// A list that goes to a program or a file is not cut.
pub(super) fn width() -> Width {
    if io::stdout().is_terminal() { Width::Terminal } else { Width::Whole }
}

/// Data on standard output; `Break` when its reader has seen enough (`| head`). A program gets every byte as it is; on a
/// terminal, text from outside could move the cursor or turn the order of what is read.
pub(super) fn emit(text: &[u8]) -> Result<ControlFlow<()>, Failure> {
    let mut out = io::stdout().lock();
    let written =
        if out.is_terminal() { out.write_all(view::for_terminal(text).as_bytes()) } else { out.write_all(text) };
    match written.and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error.into()),
    }
}

/// Says on standard error that a list ended at its limit, to keep the data clean.
pub(super) fn say_if_cut(shown: usize, limit: usize) {
    if shown == limit {
        note(format_args!("the first {limit} entries; there may be more (--limit, --all)"));
    }
}
