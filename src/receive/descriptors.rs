//! Keeps file descriptors free for what must go on while callers take every connection they can: health, the store, sinks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside the public connections: the store's files, sinks and the API by the dozen, admin.
const RESERVE: u64 = 256;

/// Raises the process's soft limit as far as `connections` need and the hard limit allows. Returns how many connections
/// fit beside the reserve; fewer than asked for are said in the log.
pub(super) fn room_for(connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(RESERVE);
    let soft = limit.current.unwrap_or(u64::MAX);
    let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let open = if raised > soft {
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
            Ok(()) => raised,
            Err(_refused) => soft,
        }
    } else {
        soft
    };
    let fit = fit(open, connections);
    if fit < connections {
        tracing::warn!(
            code = "open_files_limited",
            sockets = fit,
            wanted = connections,
            limit = open,
            "the limit of open files leaves room for fewer connections than listener.max_connections: raise it (`ulimit -n`)"
        );
    }
    fit
}

/// Connections that fit under a limit of descriptors. Where even the reserve does not fit, half of the limit stays free.
fn fit(limit: u64, connections: usize) -> usize {
    let room = limit.saturating_sub(RESERVE.min(limit / 2));
    usize::try_from(room).unwrap_or(usize::MAX).min(connections).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_a_reserve() {
        assert_eq!(fit(1_048_576, 4096), 4096);
        assert_eq!(fit(4352, 4096), 4096);
        assert_eq!(fit(1024, 4096), 768);
        assert_eq!(fit(100, 4096), 50);
        assert_eq!(fit(0, 4096), 1);
    }
}
