//! What the handlers stand on.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use common::{
    ids::{NotificationId, TenantId},
    token::Verifier,
};
use tokio_util::sync::CancellationToken;

use super::limits::RateLimits;
use crate::{
    config::LimitsConfig,
    model::{Accepted, Channel, Cursor, NewNotification, ReaderKeys},
    store::{Mark, Marked, ReadAll, Store, StoreError},
    template::Templates,
};

/// State of every handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ApiConfig,
    limits: RateLimits,
    templates: Templates,
}

/// What the API is made of.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where everything is kept.
    pub store: Store,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Accepts and reads, and tells sockets and workers of it.
    pub service: Service,
    /// Which channels work.
    pub channels: Channels,
    /// What callers may ask for.
    pub limits: LimitsConfig,
    /// How long the accepting node holds a realtime delivery that it publishes itself.
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
        let limits = RateLimits::new(&config.limits);
        Self(Arc::new(Inner { config, limits, templates: Templates::default() }))
    }

    pub(crate) fn templates(&self) -> &Templates {
        &self.0.templates
    }

    pub(crate) fn rate_limits(&self) -> &RateLimits {
        &self.0.limits
    }
}

impl std::ops::Deref for ApiState {
    type Target = ApiConfig;

    fn deref(&self) -> &ApiConfig {
        &self.0.config
    }
}

/// What a channel is able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelSetup {
    /// Attempts before a delivery is dead.
    pub max_attempts: u32,
    /// Whether it has a destination of its own, so that a notification needs no address (robots, webhook).
    pub has_destination: bool,
}

/// The channels that are configured. The others are known and end as `not_configured`.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<BTreeMap<Channel, ChannelSetup>>);

impl Channels {
    /// These channels, and none else.
    #[must_use]
    pub fn new(configured: impl IntoIterator<Item = (Channel, ChannelSetup)>) -> Self {
        Self(Arc::new(configured.into_iter().collect()))
    }

    /// What the channel is able to do; none when it is not configured.
    #[must_use]
    pub fn get(&self, channel: Channel) -> Option<ChannelSetup> {
        self.0.get(&channel).copied()
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
pub struct LiveStats(Arc<dyn Fn(&TenantId) -> Live + Send + Sync>);

impl LiveStats {
    /// Asks by this function, which must not block.
    pub fn new(ask: impl Fn(&TenantId) -> Live + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(crate) fn of(&self, tenant: &TenantId) -> Live {
        (self.0)(tenant)
    }
}

impl Default for LiveStats {
    fn default() -> Self {
        Self::new(|_| Live::default())
    }
}

impl fmt::Debug for LiveStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveStats")
    }
}

/// STAND-IN until the crate's service exists: the store alone, nothing is published.
#[derive(Debug, Clone)]
pub struct Service(pub Store);

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Service {
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        self.0.accept(notifications).await
    }
    pub async fn mark(&self, reader: &ReaderKeys, ids: Vec<NotificationId>, mark: Mark) -> Result<Marked, StoreError> {
        self.0.mark(reader, ids, mark).await
    }
    pub async fn mark_all_read(&self, reader: &ReaderKeys, up_to: Option<&Cursor>) -> Result<ReadAll, StoreError> {
        self.0.mark_all_read(reader, up_to).await
    }
    pub async fn withdraw(&self, tenant: &TenantId, id: NotificationId) -> Result<bool, StoreError> {
        self.0.withdraw(tenant, id).await
    }
}
