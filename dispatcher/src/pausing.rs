//! What is paused, as every part of this process sees it: read from the store now and then, and at once after a change.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::ids::TenantId;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    model::{Channel, Micros, Pause, Pauses},
    store::{Store, StoreError},
    wake::Wake,
};

/// How often the store is asked: every dispatcher knows of a pause within a second.
const REFRESH: Duration = Duration::from_millis(500);

/// The pauses of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pausing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    wake: Wake,
    metrics: Metrics,
    current: RwLock<Arc<Pauses>>,
}

impl Pausing {
    pub(crate) fn new(store: Store, wake: Wake, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            store,
            wake,
            metrics,
            current: RwLock::default(),
        }))
    }

    /// What is known now.
    pub(crate) fn current(&self) -> Arc<Pauses> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Pauses, on this node before it returns.
    pub(crate) async fn pause(&self, pause: Pause) -> Result<(), StoreError> {
        self.0.store.pause(pause).await?;
        self.refresh().await
    }

    /// Resumes. False: exactly this was not paused.
    pub(crate) async fn resume(
        &self,
        tenant: Option<TenantId>,
        channel: Option<Channel>,
    ) -> Result<bool, StoreError> {
        let resumed = self.0.store.resume(tenant, channel).await?;
        self.refresh().await?;
        Ok(resumed)
    }

    /// Reads the store, and wakes the queue where something has changed.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let found = self.0.store.pauses().await?;
        let holding = found.holding(Micros::now()).count();
        let known = i64::try_from(holding).unwrap_or(i64::MAX);
        // One that ended by itself changes this number and not the list.
        let was = self.0.metrics.pauses.set(known);
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = **current != found || was != known;
        if is_news {
            *current = Arc::new(found);
        }
        drop(current);
        if is_news {
            tracing::debug!(pauses = known, "the pauses of the queue have changed");
            self.0.wake.all();
        }
        Ok(())
    }

    /// Keeps itself up to date until the queue stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "it could not be read what is paused; what is known holds on");
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(REFRESH))
                .await
                .is_none()
            {
                return;
            }
        }
    }
}
