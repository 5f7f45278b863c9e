//! Whether the database is away: found out once for all, so that requests do not each wait for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::store::StoreError;

/// What this process knows of the database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Away(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    down: AtomicBool,
    went: Notify,
    patience: Duration,
}

impl Away {
    /// It is there until the contrary is known. What is not answered within `patience` is away.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self(Arc::new(Inner {
            down: AtomicBool::new(false),
            went: Notify::new(),
            patience,
        }))
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Whether it is away, as far as is known.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Acquire)
    }

    /// Somebody found it away: who waits for it learns so.
    pub(crate) fn went_down(&self, reason: &str) {
        if !self.0.down.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "the database is away");
        }
        self.0.went.notify_waiters();
    }

    /// Somebody found it there.
    pub(crate) fn came_back(&self) {
        if self.0.down.swap(false, Ordering::AcqRel) {
            tracing::info!("the database is back");
        }
    }

    /// Waits until it is away.
    pub(crate) async fn gone(&self) {
        loop {
            let went = self.0.went.notified();
            tokio::pin!(went);
            went.as_mut().enable();
            if self.is_down() {
                return;
            }
            went.await;
        }
    }

    /// Asks the database, unless it is away: then the answer is that, at once, and so it is as soon as somebody finds out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and what the work says.
    pub async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let away = |reason: &str| StoreError::Unavailable {
            reason: reason.to_owned(),
        };
        let answer = tokio::select! {
            biased;
            () = self.gone() => return Err(away("the database is away")),
            answer = timeout(self.patience(), work) => answer,
        };
        match answer {
            Ok(Err(StoreError::Unavailable { reason })) => {
                self.went_down(&reason);
                Err(StoreError::Unavailable { reason })
            }
            Ok(answer) => answer,
            Err(_) => {
                let reason = format!("the database gave no answer within {:?}", self.patience());
                self.went_down(&reason);
                Err(away(&reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_waits_learns_at_once_that_it_is_away() {
        let away = Away::new(Duration::from_secs(2));
        let waits = away.gone();
        tokio::pin!(waits);
        assert_eq!(waits.as_mut().now_or_never(), None);
        away.went_down("gone");
        assert_eq!(waits.now_or_never(), Some(()));
        assert_eq!(away.gone().now_or_never(), Some(()), "who comes later, too");
        away.came_back();
        assert!(!away.is_down());
        assert_eq!(away.gone().now_or_never(), None);
    }
}
