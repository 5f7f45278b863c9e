//! The limit of open files, and how many sockets it allows: every socket is a descriptor.

/// Descriptors for all else: listeners, database, the runtime, logs, calls to providers.
const OTHERS: u64 = 256;

/// Raises the soft limit as far as the hard one allows, says how many sockets that makes, and warns where more are
/// configured.
pub(crate) fn raise_limit(max_connections: usize) {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            return;
        }
    };
    let sockets = sockets(limit);
    tracing::info!(limit, sockets, "sockets that the limit of open files allows");
    if sockets < max_connections as u64 {
        tracing::warn!(
            limit,
            sockets,
            max_connections,
            "hub.max_connections is more than the limit of open files allows: raise the limit (LimitNOFILE=, ulimit \
             -Hn) or lower the setting, so that who is too many is told when to come back"
        );
    }
}

/// Sockets and other connections that a limit of open files leaves room for.
fn sockets(limit: u64) -> u64 {
    limit.saturating_sub(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_all_else() {
        for (limit, allowed) in [
            (0, 0),
            (256, 0),
            (1024, 768),
            (20_000, 19_744),
            (u64::MAX, u64::MAX - 256),
        ] {
            assert_eq!(sockets(limit), allowed);
        }
    }
}
