//! What can be changed while processes run.

use crate::model::Channel;

/// Keys of the configuration that hold at once when they are changed. Beside them `channels.<name>.retry`, see
/// [`is_changeable`].
pub const KEYS: [&str; 13] = [
    "limits.user_requests_per_minute",
    "limits.service_requests_per_second",
    "limits.queued_max",
    "limits.queued_max_per_tenant",
    "log.level",
    "queue.shares",
    "queue.rates",
    "queue.tenant_max",
    "queue.retry",
    "queue.max_attempts",
    "rules.builtin",
    "rules.per_tenant",
    "rules.list",
];

/// The channel whose retries a key sets: its name, or `default`.
#[must_use]
pub fn channel_of(key: &str) -> Option<&str> {
    key.strip_prefix("channels.")?.strip_suffix(".retry")
}

/// Whether a key can be changed while processes run.
#[must_use]
pub fn is_changeable(key: &str) -> bool {
    KEYS.contains(&key)
        || channel_of(key).is_some_and(|name| {
            name == "default" || name.parse::<Channel>().is_ok_and(|channel| channel.is_external())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_no_setting() {
        for key in [
            "limits.queued_max",
            "channels.email.retry",
            "channels.default.retry",
        ] {
            assert!(is_changeable(key), "{key}");
        }
        let others = [
            "database.url",
            "auth.secret",
            "channels.in_app.retry",
            "channels.email",
            "channels.nobody.retry",
            "limits",
            "",
        ];
        for key in others {
            assert!(!is_changeable(key), "{key}");
        }
    }
}
