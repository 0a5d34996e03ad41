//! Notes in the audit trail what a command is about to do, and what came of it.

use super::{Failure, chain, guest::note};
use inbox::{Act, Audit};

/// Who runs this command: the user by number, which the system knows, and by name, as far as the environment says.
fn who() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

/// What happens where an act cannot be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unnoted {
    /// It is not done.
    Stops,
    /// It is done all the same, because it makes room on a disk that may be full.
    GoesOn,
}

/// Does something that is noted in the audit trail. `work` returns its result and how many entries that concerned.
///
/// # Errors
/// Those of `work`, and 75 where the act cannot be noted.
pub(super) async fn noted<T>(
    audit: &dyn Audit,
    (what, which): (&str, String),
    unnoted: Unnoted,
    work: impl AsyncFnOnce() -> Result<(T, u64), Failure>,
) -> Result<T, Failure> {
    let act = Act { who: who(), what: what.to_owned(), which };
    let number = match audit.begin(&act).await {
        Ok(number) => Some(number),
        Err(error) if unnoted == Unnoted::GoesOn => {
            note(format_args!("this could not be noted in the audit trail: {}", chain(&error)));
            None
        }
        Err(error) => {
            return Err(Failure::not_now(format_args!(
                "not done, because it could not be noted in the audit trail: {}",
                chain(&error)
            )));
        }
    };
    let (result, entries) = work().await?;
    if let Some(number) = number {
        // The act itself is noted; without this its number of entries is missing.
        audit.end(number, entries).await.ok();
    }
    Ok(result)
}
