//! Pauses: what the queue leaves alone until somebody resumes it.

use common::ids::TenantId;
use serde_json::{Value, json};

use super::{Channel, Micros};

/// One pause. Without a tenant it holds for all of them, without a channel for all channels that leave this system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Whose deliveries wait.
    pub tenant: Option<TenantId>,
    /// By what.
    pub channel: Option<Channel>,
    /// For people.
    pub reason: Option<String>,
    /// Who said so: an API key's id or the token's `sub`.
    pub paused_by: String,
    /// Since when.
    pub paused_at: Micros,
    /// When it ends by itself.
    pub ends_at: Option<Micros>,
}

impl Pause {
    /// Whether it is about the same deliveries.
    #[must_use]
    pub fn is_of(&self, tenant: Option<&TenantId>, channel: Option<Channel>) -> bool {
        self.tenant.as_ref() == tenant && self.channel == channel
    }

    /// Whether it holds at a time.
    #[must_use]
    pub fn holds(&self, now: Micros) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    /// Whether it is one of a tenant's, or of all.
    #[must_use]
    pub fn concerns(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|paused| paused == tenant)
    }

    /// What the audit log shows of it.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "channel": self.channel.map(Channel::as_str),
            "all_tenants": self.tenant.is_none(),
            "reason": self.reason,
            "until": self.ends_at.map(Micros::rfc3339),
        })
    }

    fn covers(&self, tenant: &TenantId, channel: Channel, now: Micros) -> bool {
        self.concerns(tenant)
            && self.channel.is_none_or(|paused| paused == channel)
            && channel.is_external()
            && self.holds(now)
    }
}

/// All pauses at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(pub Vec<Pause>);

impl Pauses {
    /// The pause that keeps a tenant's deliveries by a channel waiting. Inbox and sockets are never paused: their rows and
    /// frames go out with the acceptance.
    #[must_use]
    pub fn of(&self, tenant: &TenantId, channel: Channel, now: Micros) -> Option<&Pause> {
        self.0.iter().find(|pause| pause.covers(tenant, channel, now))
    }

    /// Those that hold at a time.
    pub fn holding(&self, now: Micros) -> impl Iterator<Item = &Pause> {
        self.0.iter().filter(move |pause| pause.holds(now))
    }

    /// When the next one ends by itself.
    #[must_use]
    pub fn next_end(&self, now: Micros) -> Option<Micros> {
        self.holding(now).filter_map(|pause| pause.ends_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::new(id).unwrap()
    }

    fn pause(tenant_id: Option<&str>, channel: Option<Channel>, ends_at: Option<i64>) -> Pauses {
        Pauses(vec![Pause {
            tenant: tenant_id.map(tenant),
            channel,
            reason: None,
            paused_by: "op".to_owned(),
            paused_at: Micros(0),
            ends_at: ends_at.map(Micros),
        }])
    }

    #[test]
    fn a_pause_covers_what_it_names_and_nothing_else() {
        let now = Micros(10);
        let covered = |pauses: &Pauses, id: &str, channel| pauses.of(&tenant(id), channel, now).is_some();
        let both = pause(Some("a"), Some(Channel::Email), None);
        assert!(covered(&both, "a", Channel::Email));
        assert!(!covered(&both, "b", Channel::Email) && !covered(&both, "a", Channel::Sms));
        let whole = pause(Some("a"), None, None);
        assert!(covered(&whole, "a", Channel::Sms) && !covered(&whole, "b", Channel::Sms));
        let all = pause(None, Some(Channel::Sms), None);
        assert!(covered(&all, "b", Channel::Sms) && !covered(&all, "b", Channel::Email));
        for own in [Channel::InApp, Channel::Realtime] {
            assert!(!covered(&whole, "a", own));
        }
    }

    #[test]
    fn a_pause_ends_by_itself_at_its_time() {
        let pauses = pause(Some("a"), None, Some(20));
        let of = |now| pauses.of(&tenant("a"), Channel::Email, Micros(now)).is_some();
        assert!(of(19) && !of(20));
        assert_eq!(pauses.next_end(Micros(0)), Some(Micros(20)));
        assert_eq!(pauses.next_end(Micros(20)), None);
    }
}
