//! Whether what Redis has taken stays: only then may a notification be accepted into the spool.

use std::collections::HashMap;

use super::link::{Link, LinkError};

/// What was found out of the server's settings.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    append_only: Option<String>,
    fsync: Option<String>,
    memory: Option<u64>,
    eviction: Option<String>,
}

/// Asks the server. `Ok(Err(…))`: it can be asked, and promises nothing, for this reason.
///
/// # Errors
/// [`LinkError`]: it cannot be asked now.
pub(super) async fn ask(link: &Link) -> Result<Result<(), String>, LinkError> {
    let mut settings = Settings::default();
    let memory = link.ask("INFO", &["memory"]).await?;
    let memory = memory.as_string().unwrap_or_default();
    settings.memory = info(&memory, "maxmemory").and_then(|number| number.parse().ok());
    settings.eviction = info(&memory, "maxmemory_policy").map(str::to_owned);
    if link.replicas() == 0 {
        // Where it may not be asked, it promises nothing.
        for (name, place) in [
            ("appendonly", &mut settings.append_only),
            ("appendfsync", &mut settings.fsync),
        ] {
            *place = match link.ask("CONFIG", &["GET", name]).await {
                Ok(value) => value
                    .convert::<HashMap<String, String>>()
                    .ok()
                    .and_then(|mut found| found.remove(name)),
                Err(LinkError::Redis(reason))
                    if reason.contains("NOPERM") || reason.contains("unknown command") =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
        }
    }
    Ok(judge(&settings, link.replicas()))
}

fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key == name).then_some(value.trim()))
}

fn judge(settings: &Settings, replicas: u8) -> Result<(), String> {
    let evicts = settings
        .eviction
        .as_deref()
        .is_some_and(|policy| policy != "noeviction");
    if evicts && settings.memory != Some(0) {
        let policy = settings.eviction.as_deref().unwrap_or_default();
        return Err(format!(
            "redis may evict what it holds (maxmemory-policy {policy}); set noeviction"
        ));
    }
    if replicas > 0 {
        return Ok(());
    }
    match (settings.append_only.as_deref(), settings.fsync.as_deref()) {
        (Some("yes"), Some("always")) => Ok(()),
        (Some("yes"), Some(fsync)) => Err(format!(
            "redis flushes its file later than it answers (appendfsync {fsync}); set appendfsync always, or \
             redis.wait_replicas where it has replicas"
        )),
        (Some(_), _) => Err(
            "redis keeps its data in memory only (appendonly no); set appendonly yes and appendfsync always, or \
             redis.wait_replicas where it has replicas"
                .to_owned(),
        ),
        (None, _) => Err(
            "redis does not say whether it flushes what it answers (CONFIG GET is not allowed), and \
             redis.wait_replicas is 0"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(append_only: Option<&str>, fsync: Option<&str>, memory: u64, eviction: &str) -> Settings {
        Settings {
            append_only: append_only.map(str::to_owned),
            fsync: fsync.map(str::to_owned),
            memory: Some(memory),
            eviction: Some(eviction.to_owned()),
        }
    }

    #[test]
    fn only_a_flush_or_a_replica_is_a_promise() {
        let of =
            |append_only, fsync, replicas| judge(&settings(append_only, fsync, 0, "noeviction"), replicas);
        assert_eq!(of(Some("yes"), Some("always"), 0), Ok(()));
        assert_eq!(of(Some("no"), Some("always"), 1), Ok(()));
        for (append_only, fsync, word) in [
            (Some("yes"), Some("everysec"), "everysec"),
            (Some("yes"), Some("no"), "appendfsync no"),
            (Some("no"), Some("always"), "appendonly no"),
            (None, None, "CONFIG GET"),
        ] {
            let reason = of(append_only, fsync, 0).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn what_may_be_evicted_is_no_promise() {
        let of = |memory, policy| judge(&settings(Some("yes"), Some("always"), memory, policy), 0);
        assert_eq!(of(1 << 30, "noeviction"), Ok(()));
        assert_eq!(of(0, "allkeys-lru"), Ok(()));
        for policy in ["allkeys-lru", "volatile-ttl"] {
            assert!(of(1 << 30, policy).unwrap_err().contains(policy));
        }
    }

    #[test]
    fn info_is_read_by_its_whole_name() {
        let text = "# Memory\r\nmaxmemory_human:1G\r\nmaxmemory:7\r\nmaxmemory_policy:noeviction\r\n";
        assert_eq!(info(text, "maxmemory"), Some("7"));
        assert_eq!(info(text, "maxmemory_policy"), Some("noeviction"));
        assert_eq!(info(text, "used"), None);
    }
}
