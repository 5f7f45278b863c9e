//! What callers may ask in this process: end users by the minute, services by the second.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use common::{
    ids::{Name, TenantId},
    token::Identity,
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
};

use crate::{config::LimitsConfig, model::Micros};

type Key = (TenantId, Name);
type Limiter = RateLimiter<
    Key,
    governor::state::keyed::DefaultKeyedStateStore<Key>,
    DefaultClock,
    StateInformationMiddleware,
>;

/// Seconds after which the keys of callers who have gone are let go.
const SWEEP_SECONDS: i64 = 60;

/// Items of a bulk request that cost as much as one request.
const ITEMS_A_REQUEST: usize = 10;

/// The callers' budgets in this process.
#[derive(Debug)]
pub(crate) struct RateLimits {
    users: Limiter,
    services: Limiter,
    user_limit: u32,
    service_limit: u32,
    swept_at: AtomicI64,
}

/// What is left of a caller's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) limit: u32,
    /// The time that the limit is for: `minute` or `second`.
    pub(crate) period: &'static str,
    pub(crate) remaining: u32,
    /// Until the request is allowed when it comes again, or the budget is whole again.
    pub(crate) reset: Duration,
    pub(crate) refused: bool,
}

impl RateLimits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        // The configuration refuses zero before it comes here.
        let number = |limit| NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
        let limiter = |quota| -> Limiter {
            DefaultKeyedRateLimiter::keyed(quota).with_middleware::<StateInformationMiddleware>()
        };
        Self {
            users: limiter(Quota::per_minute(number(config.user_requests_per_minute))),
            services: limiter(Quota::per_second(number(config.service_requests_per_second))),
            user_limit: config.user_requests_per_minute,
            service_limit: config.service_requests_per_second,
            swept_at: AtomicI64::new(Micros::now().seconds()),
        }
    }

    /// Whether they are made for these limits.
    pub(crate) fn are(&self, config: &LimitsConfig) -> bool {
        self.user_limit == config.user_requests_per_minute
            && self.service_limit == config.service_requests_per_second
    }

    /// Takes one request.
    pub(crate) fn check(&self, caller: &Identity) -> Budget {
        self.sweep();
        self.take(caller, NonZeroU32::MIN)
    }

    /// Takes what a request for so many items costs more than one: one in all for every [`ITEMS_A_REQUEST`] begun. The one
    /// that every request costs is taken. None: it costs nothing more.
    pub(crate) fn charge(&self, caller: &Identity, items: usize) -> Option<Budget> {
        let cost = u32::try_from(items.div_ceil(ITEMS_A_REQUEST)).unwrap_or(u32::MAX);
        let mut budget = self.take(caller, NonZeroU32::new(cost.saturating_sub(1))?);
        if budget.refused {
            // When it comes again it takes the one that every request costs first.
            budget.reset += self.interval(caller);
        }
        Some(budget)
    }

    /// The time in which a caller's budget grows by one.
    fn interval(&self, caller: &Identity) -> Duration {
        if caller.is_service() {
            Duration::from_secs(1) / self.service_limit.max(1)
        } else {
            Duration::from_secs(60) / self.user_limit.max(1)
        }
    }

    fn take(&self, caller: &Identity, number: NonZeroU32) -> Budget {
        let key = (caller.tenant.clone(), caller.user.clone());
        let (limiter, limit, period) = if caller.is_service() {
            (&self.services, self.service_limit, "second")
        } else {
            (&self.users, self.user_limit, "minute")
        };
        match limiter.check_key_n(&key, number) {
            // More than the whole budget never fits, however long one waits.
            Err(_) => Budget {
                limit,
                period,
                remaining: 0,
                reset: Duration::ZERO,
                refused: true,
            },
            Ok(Ok(snapshot)) => {
                let remaining = snapshot.remaining_burst_capacity();
                let used = limit.saturating_sub(remaining);
                Budget {
                    limit,
                    period,
                    remaining,
                    reset: snapshot.quota().replenish_interval() * used,
                    refused: false,
                }
            }
            Ok(Err(not_until)) => {
                let reset = not_until.wait_time_from(DefaultClock::default().now());
                // So many are missing of those that it takes.
                let interval = self.interval(caller).as_nanos().max(1);
                let missing = u32::try_from(reset.as_nanos().div_ceil(interval)).unwrap_or(u32::MAX);
                Budget {
                    limit,
                    period,
                    remaining: number.get().saturating_sub(missing.max(1)),
                    reset,
                    refused: true,
                }
            }
        }
    }

    /// Items of one request that a whole budget pays for.
    pub(crate) fn items_max(&self, caller: &Identity) -> usize {
        let limit = if caller.is_service() {
            self.service_limit
        } else {
            self.user_limit
        };
        (limit as usize).saturating_mul(ITEMS_A_REQUEST)
    }

    /// A key whose budget is whole again tells nothing and is let go.
    fn sweep(&self) {
        let now = Micros::now().seconds();
        let last = self.swept_at.load(Ordering::Relaxed);
        if now - last < SWEEP_SECONDS
            || self
                .swept_at
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        for limiter in [&self.users, &self.services] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_was_refused_waits_for_its_whole_cost_and_is_told_what_is_left() {
        // One in ten seconds.
        let limits = RateLimits::new(&LimitsConfig {
            user_requests_per_minute: 6,
            ..LimitsConfig::default()
        });
        let caller = Identity {
            tenant: TenantId::new("t").unwrap(),
            user: Name::new("u").unwrap(),
            roles: Vec::new(),
            stores: Vec::new(),
            topics: Vec::new(),
            scopes: BTreeSet::new(),
            expires_at: i64::MAX,
        };
        for left in [5, 4, 3] {
            assert_eq!(limits.check(&caller).remaining, left);
        }
        // Of fifty items the request's own one is taken, four are missing, and three are there. It comes again when there
        // are five: in twenty seconds, less what went by here.
        let refused = limits.charge(&caller, 50).unwrap();
        assert!(refused.refused);
        assert_eq!((refused.remaining, refused.period), (3, "minute"));
        assert!(
            (10.0..=20.0).contains(&refused.reset.as_secs_f64()) && refused.reset.as_secs() >= 15,
            "{refused:?}"
        );
        assert_eq!(limits.check(&caller).remaining, 2, "a refusal takes nothing more");
    }
}
