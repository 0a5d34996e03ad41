//! Data on standard output.

use super::view;
use crate::commands::Failure;
use std::{
    io::{self, IsTerminal as _, Write as _},
    ops::ControlFlow,
};

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
