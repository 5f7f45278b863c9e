//! What follows an attempt: a pure decision.

use super::policy::RetryPolicy;
use crate::{
    model::{Channel, DeliveryState, Micros, Outcome, Reason},
    store::OnUnknown,
};

/// An attempt that has ended, and what bounds further ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'a> {
    /// By what.
    pub(crate) channel: Channel,
    /// How it ended.
    pub(crate) outcome: &'a Outcome,
    /// Its number, from 1.
    pub(crate) number: u32,
    /// The last number that may be tried.
    pub(crate) max_attempts: u32,
    /// When the notification became visible; its age counts from here.
    pub(crate) visible_at: Micros,
    /// No attempt begins at or after this.
    pub(crate) expires_at: Option<Micros>,
    /// What the channel does with the unknown.
    pub(crate) on_unknown: OnUnknown,
}

/// The next state of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    /// A terminal state, or pending.
    pub(crate) state: DeliveryState,
    /// When it is due again, for pending.
    pub(crate) due_at: Option<Micros>,
    /// Why.
    pub(crate) reason: Option<Reason>,
}

impl Next {
    fn end(state: DeliveryState, reason: Option<&'static str>) -> Self {
        Self {
            state,
            due_at: None,
            reason: reason.map(Reason::Borrowed),
        }
    }
}

/// What follows where a delivery has no turn before `until`: it was not tried, so no pause and no attempt counts.
pub(crate) fn wait(
    until: Micros,
    visible_at: Micros,
    expires_at: Option<Micros>,
    policy: &RetryPolicy,
) -> Next {
    again(until, visible_at, expires_at, policy, "throttled")
}

/// Due again, unless that is too late.
fn again(
    due_at: Micros,
    visible_at: Micros,
    expires_at: Option<Micros>,
    policy: &RetryPolicy,
    reason: &'static str,
) -> Next {
    if expires_at.is_some_and(|expires_at| due_at >= expires_at) {
        return Next::end(DeliveryState::Expired, Some("expired"));
    }
    if policy.max_age().is_some_and(|age| due_at >= visible_at.plus(age)) {
        return Next::end(DeliveryState::Dead, Some("too_old"));
    }
    Next {
        state: DeliveryState::Pending,
        due_at: Some(due_at),
        reason: Some(Reason::Borrowed(reason)),
    }
}

/// What follows an attempt, by the channel's policy; `random` from 0 to 1 is its jitter. A provider's own wish counts where
/// it is later, up to what the policy hears. Realtime is bounded by its age alone ([`Ended::expires_at`]), as a frame is
/// worth nothing when it is old.
pub(crate) fn decide(ended: &Ended<'_>, policy: &RetryPolicy, now: Micros, random: f64) -> Next {
    use DeliveryState::{Dead, Delivered, Expired, Skipped};

    let (not_before, reason) = match ended.outcome {
        Outcome::Delivered => return Next::end(Delivered, None),
        Outcome::Skipped => return Next::end(Skipped, Some("nobody_online")),
        Outcome::RecipientInvalid => return Next::end(Dead, Some("recipient_invalid")),
        Outcome::Rejected => return Next::end(Dead, Some("rejected")),
        Outcome::NotConfigured => return Next::end(Dead, Some("not_configured")),
        Outcome::Expired => return Next::end(Expired, Some("expired")),
        Outcome::Unknown if ended.on_unknown == OnUnknown::Hold => return Next::end(Dead, Some("unknown")),
        Outcome::Unknown => (now, "unknown"),
        Outcome::Retry => (now, "retry"),
        Outcome::Throttled { until } => ((*until).min(now.plus(policy.longest_wish())), "throttled"),
    };
    if ended.channel != Channel::Realtime && ended.number >= ended.max_attempts {
        return Next::end(Dead, Some("attempts_exhausted"));
    }
    let due_at = now.plus(policy.pause(ended.number, random)).max(not_before);
    again(due_at, ended.visible_at, ended.expires_at, policy, reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{QueueConfig, RetryConfig};

    const NOW: Micros = Micros(1_000_000_000);
    const MINUTES: [Duration; 3] = [
        Duration::from_secs(60),
        Duration::from_secs(300),
        Duration::from_secs(900),
    ];

    fn minutes() -> RetryPolicy {
        RetryPolicy::list(MINUTES.to_vec())
    }

    fn ended(outcome: &Outcome, number: u32) -> Ended<'_> {
        Ended {
            channel: Channel::Email,
            outcome,
            number,
            max_attempts: 4,
            visible_at: NOW,
            expires_at: None,
            on_unknown: OnUnknown::Resend,
        }
    }

    #[test]
    fn pauses_follow_the_schedule_then_it_is_dead() {
        for (number, seconds) in [(1, 60), (2, 300), (3, 900)] {
            let next = decide(&ended(&Outcome::Retry, number), &minutes(), NOW, 0.0);
            assert_eq!(next.due_at, Some(NOW.plus(Duration::from_secs(seconds))));
            assert_eq!(next.state, DeliveryState::Pending);
        }
        let next = decide(&ended(&Outcome::Retry, 4), &minutes(), NOW, 0.0);
        assert_eq!(next, Next::end(DeliveryState::Dead, Some("attempts_exhausted")));
    }

    #[test]
    fn the_last_pause_repeats() {
        let ended = Ended {
            max_attempts: 100,
            ..ended(&Outcome::Retry, 50)
        };
        assert_eq!(
            decide(&ended, &minutes(), NOW, 0.0).due_at,
            Some(NOW.plus(MINUTES[2]))
        );
    }

    #[test]
    fn a_provider_may_ask_for_a_longer_pause_but_not_for_a_shorter_one() {
        let late = NOW.plus(Duration::from_secs(3600));
        let next = decide(
            &ended(&Outcome::Throttled { until: late }, 1),
            &minutes(),
            NOW,
            0.5,
        );
        assert_eq!(next.due_at, Some(late));
        let next = decide(
            &ended(&Outcome::Throttled { until: NOW }, 1),
            &minutes(),
            NOW,
            0.0,
        );
        assert_eq!(next.due_at, Some(NOW.plus(MINUTES[0])));
    }

    #[test]
    fn nothing_is_tried_after_its_expiry() {
        let outcome = Outcome::Retry;
        let ended = Ended {
            expires_at: Some(NOW.plus(MINUTES[0])),
            ..ended(&outcome, 1)
        };
        assert_eq!(decide(&ended, &minutes(), NOW, 0.0).state, DeliveryState::Expired);
    }

    #[test]
    fn what_is_too_old_is_not_tried_again() {
        let config: RetryConfig = serde_json::from_str(r#"{"max_age":"10m","jitter":0}"#).unwrap();
        let policy = RetryPolicy::new(&config, &QueueConfig::default());
        let age = |seconds| Ended {
            visible_at: NOW.minus(Duration::from_secs(seconds)),
            ..ended(&Outcome::Retry, 1)
        };
        assert_eq!(decide(&age(539), &policy, NOW, 0.0).state, DeliveryState::Pending);
        let dead = Next::end(DeliveryState::Dead, Some("too_old"));
        assert_eq!(decide(&age(540), &policy, NOW, 0.0), dead);
        let visible_at = NOW.minus(Duration::from_secs(599));
        let until = NOW.plus(Duration::from_secs(1));
        assert_eq!(wait(until, visible_at, None, &policy), dead);
        assert_eq!(wait(NOW, visible_at, None, &policy).due_at, Some(NOW));
        assert_eq!(
            wait(NOW, visible_at, Some(NOW), &policy).state,
            DeliveryState::Expired
        );
    }

    #[test]
    fn a_providers_wish_is_heard_up_to_a_bound() {
        let late = NOW.plus(Duration::from_hours(1000));
        let next = decide(
            &ended(&Outcome::Throttled { until: late }, 1),
            &minutes(),
            NOW,
            0.0,
        );
        assert_eq!(next.due_at, Some(NOW.plus(Duration::from_hours(24))));
    }

    #[test]
    fn the_channel_says_what_becomes_of_the_unknown() {
        let outcome = Outcome::Unknown;
        assert_eq!(
            decide(&ended(&outcome, 1), &minutes(), NOW, 0.0).state,
            DeliveryState::Pending
        );
        let held = Ended {
            on_unknown: OnUnknown::Hold,
            ..ended(&outcome, 1)
        };
        assert_eq!(
            decide(&held, &minutes(), NOW, 0.0),
            Next::end(DeliveryState::Dead, Some("unknown"))
        );
    }

    #[test]
    fn realtime_is_bounded_by_age_and_not_by_attempts() {
        let outcome = Outcome::Retry;
        let ended = Ended {
            channel: Channel::Realtime,
            number: 50,
            ..ended(&outcome, 1)
        };
        assert_eq!(decide(&ended, &minutes(), NOW, 0.0).state, DeliveryState::Pending);
    }

    proptest! {
        #[test]
        fn jitter_only_lengthens_and_by_a_fifth_at_most(number in 1u32..4, random in 0.0f64..1.0) {
            let due = decide(&ended(&Outcome::Retry, number), &minutes(), NOW, random).due_at.unwrap();
            let pause = MINUTES[number as usize - 1];
            prop_assert!(due >= NOW.plus(pause) && due <= NOW.plus(pause * 6 / 5));
        }
    }
}
