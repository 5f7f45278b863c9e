//! What the handlers stand on.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::{credential::Credentials, ids::TenantId};
use futures_util::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;

use super::{budget::RateLimits, remembered::Remembered, rules::Book, under_way::UnderWay};
use crate::{
    capacity::Capacity,
    config::{LimitsConfig, SchedulesConfig, StrategyConfig},
    service::Service,
    store::Store,
    template::Templates,
};

/// State of every handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ApiConfig,
    limits: RwLock<Arc<RateLimits>>,
    templates: Templates,
    remembered: Remembered,
    capacity: Capacity,
    under_way: UnderWay,
    rules: Book,
}

/// What the API is made of.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Says who callers are.
    pub credentials: Arc<Credentials>,
    /// Accepts and reads, and tells sockets and workers of it.
    pub service: Service,
    /// What callers may ask for.
    pub limits: LimitsConfig,
    /// Bounds of recurring notifications.
    pub schedules: SchedulesConfig,
    /// What chains do where a request says nothing else.
    pub strategy: StrategyConfig,
    /// How long the accepting node holds a realtime delivery that it publishes itself (`queue.lease`).
    pub realtime_lease: Duration,
    /// What the sockets' side knows for `stats`.
    pub live: LiveStats,
    /// Ends long polls when the process is about to stop.
    pub closing: CancellationToken,
}

impl ApiState {
    /// The state for handlers.
    #[must_use]
    pub fn new(config: ApiConfig) -> Self {
        super::condition::begin();
        let limits = RateLimits::new(&config.service.settings().current().config.limits);
        let rules = Book::new(&config.service);
        let capacity = Capacity::new(config.service.clone());
        Self(Arc::new(Inner {
            config,
            limits: RwLock::new(Arc::new(limits)),
            templates: Templates::default(),
            remembered: Remembered::default(),
            capacity,
            under_way: UnderWay::default(),
            rules,
        }))
    }

    pub(crate) fn store(&self) -> &Store {
        self.0.config.service.store()
    }

    pub(crate) fn templates(&self) -> &Templates {
        &self.0.templates
    }

    /// Templates as they were found last.
    pub(crate) fn remembered(&self) -> &Remembered {
        &self.0.remembered
    }

    pub(crate) fn capacity(&self) -> &Capacity {
        &self.0.capacity
    }

    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.0.under_way
    }

    /// The tenants' rules.
    pub(crate) fn rules(&self) -> &Book {
        &self.0.rules
    }

    /// The budgets of callers. Where a limit was changed, they begin anew.
    pub(crate) fn rate_limits(&self) -> Arc<RateLimits> {
        let settings = self.service.settings().current();
        let limits = &settings.config.limits;
        {
            let known = self.0.limits.read().unwrap_or_else(PoisonError::into_inner);
            if known.are(limits) {
                return Arc::clone(&known);
            }
        }
        let mut known = self.0.limits.write().unwrap_or_else(PoisonError::into_inner);
        if !known.are(limits) {
            *known = Arc::new(RateLimits::new(limits));
        }
        Arc::clone(&known)
    }
}

impl std::ops::Deref for ApiState {
    type Target = ApiConfig;

    fn deref(&self) -> &ApiConfig {
        &self.0.config
    }
}

/// What the sockets' side knows of a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Open sockets.
    pub connections: u64,
    /// Users with at least one.
    pub users_online: u64,
}

/// Asks the sockets' side; nothing where there is none.
#[derive(Clone)]
pub struct LiveStats(Arc<dyn Fn(TenantId) -> BoxFuture<'static, Live> + Send + Sync>);

impl LiveStats {
    /// Asks by this function, which must not block; what it gives back answers within a second.
    pub fn new<Answer>(ask: impl Fn(TenantId) -> Answer + Send + Sync + 'static) -> Self
    where
        Answer: Future<Output = Live> + Send + 'static,
    {
        Self(Arc::new(move |tenant| ask(tenant).boxed()))
    }

    pub(crate) async fn of(&self, tenant: &TenantId) -> Live {
        (self.0)(tenant.clone()).await
    }
}

impl Default for LiveStats {
    fn default() -> Self {
        Self::new(|_| std::future::ready(Live::default()))
    }
}

impl fmt::Debug for LiveStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveStats")
    }
}
