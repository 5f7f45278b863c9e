//! What is paused, as every part of this process sees it: read from the store when it was changed, wherever that was.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::{audit::Origin, ids::TenantId};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    model::{Channel, Micros, Pause, Pauses},
    store::{Store, StoreError},
    wake::Wake,
};

/// When what could not be read is read again.
const AGAIN: Duration = Duration::from_millis(500);

/// The pauses of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pausing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    wake: Wake,
    metrics: Metrics,
    current: RwLock<Arc<Pauses>>,
    /// One reads at a time: what was read before a change is never noted after what was read behind it.
    reading: Mutex<()>,
}

impl Pausing {
    pub(crate) fn new(store: Store, wake: Wake, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            store,
            wake,
            metrics,
            current: RwLock::default(),
            reading: Mutex::default(),
        }))
    }

    /// What is known now.
    pub(crate) fn current(&self) -> Arc<Pauses> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Pauses, on this node before it returns.
    pub(crate) async fn pause(&self, pause: Pause, by: &Origin) -> Result<(), StoreError> {
        self.0.store.pause(pause, by).await?;
        self.refresh().await.map(drop)
    }

    /// Resumes. False: exactly this was not paused.
    pub(crate) async fn resume(
        &self,
        tenant: Option<TenantId>,
        channel: Option<Channel>,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        let resumed = self.0.store.resume(tenant, channel, by).await?;
        self.refresh().await?;
        Ok(resumed)
    }

    /// Reads the store, and wakes the queue where something has changed.
    pub(crate) async fn refresh(&self) -> Result<Micros, StoreError> {
        let _reading = self.0.reading.lock().await;
        let found = self.0.store.pauses().await?;
        {
            let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
            if **current != found {
                *current = Arc::new(found);
            }
        }
        Ok(self.measure())
    }

    /// Counts what holds now, which it answers, and wakes the queue: what ended by itself is still in the list.
    fn measure(&self) -> Micros {
        let now = Micros::now();
        let holding = self.current().holding(now).count();
        let known = i64::try_from(holding).unwrap_or(i64::MAX);
        self.0.metrics.pauses.set(known);
        tracing::debug!(pauses = known, "the pauses of the queue have changed");
        self.0.wake.all();
        now
    }

    /// Keeps itself up to date until the queue stops.
    pub(crate) async fn run(self, mut revised: watch::Receiver<i64>, stop: CancellationToken) {
        let mut looked = Micros::now();
        let mut known = true;
        loop {
            let end = self.current().next_end(looked);
            let due = async {
                match end {
                    _ if !known => tokio::time::sleep(AGAIN).await,
                    Some(end) => tokio::time::sleep(end.since(Micros::now())).await,
                    None => std::future::pending().await,
                }
            };
            let is_revised = tokio::select! {
                () = stop.cancelled() => return,
                changed = revised.changed() => match changed {
                    Ok(()) => true,
                    // Nobody looks any more: the process ends.
                    Err(_) => return,
                },
                () = due => !known,
            };
            if !is_revised {
                looked = self.measure();
                continue;
            }
            match self.refresh().await {
                Ok(now) => (looked, known) = (now, true),
                Err(error) => {
                    known = false;
                    tracing::debug!(%error, "it could not be read what is paused; what is known holds on");
                }
            }
        }
    }
}
