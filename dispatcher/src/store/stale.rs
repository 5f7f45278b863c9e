//! Reads that may be answered by a replica while the primary is away: those whose caller said so, and is told.
//!
//! Nothing else ever reads from a replica: no worker, no write's own look at what it wrote.

use std::{
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Between two tries of a primary that is away.
const AGAIN: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Whether a replica has answered.
    static STALE: Cell<bool>;
}

/// Does work whose reads may come from a replica, and says whether one did.
pub(crate) async fn allowed<T>(work: impl Future<Output = T>) -> (T, bool) {
    STALE
        .scope(Cell::new(false), async {
            let done = work.await;
            (done, STALE.with(Cell::get))
        })
        .await
}

/// Whether the work at hand may read from a replica.
pub(crate) fn is_allowed() -> bool {
    STALE.try_with(|_| ()).is_ok()
}

/// A replica answers.
pub(super) fn note() {
    // Outside nobody asks.
    STALE.try_with(|stale| stale.set(true)).unwrap_or_default();
}

/// Whether the primary is worth a try: one at a time finds out whether one that is away is back, and nobody else waits.
#[derive(Debug)]
pub(super) struct Primary {
    began: Instant,
    /// Milliseconds after `began` from which on it is tried again; 0: it is there.
    next: AtomicI64,
}

impl Default for Primary {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            next: AtomicI64::new(0),
        }
    }
}

impl Primary {
    /// Whether this caller tries it. One that does says how it went.
    pub(super) fn is_tried(&self, patience: Duration) -> bool {
        let next = self.next.load(Ordering::Acquire);
        if next == 0 {
            return true;
        }
        let now = self.now();
        let after = now + millis(patience + AGAIN);
        next <= now
            && self
                .next
                .compare_exchange(next, after, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    pub(super) fn is_there(&self) {
        if self.next.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!("the primary answers readers again");
        }
    }

    pub(super) fn is_away(&self) {
        if self.next.swap(self.now() + millis(AGAIN), Ordering::AcqRel) == 0 {
            tracing::warn!("the primary does not answer readers; they are sent to the replica");
        }
    }

    fn now(&self) -> i64 {
        millis(self.began.elapsed()).saturating_add(1)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_may_read_stale_is_told() {
        assert!(!is_allowed());
        note();
        assert_eq!(allowed(async { is_allowed() }).await, (true, false));
        let (_, stale) = allowed(async { note() }).await;
        assert!(stale);
        // Work that goes on by itself does not inherit it.
        let (spawned, _) = allowed(async { tokio::spawn(async { is_allowed() }).await }).await;
        assert_eq!(spawned.ok(), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_tries_a_primary_that_is_away() {
        let (primary, patience) = (Primary::default(), Duration::from_secs(2));
        assert!(primary.is_tried(patience) && primary.is_tried(patience));
        primary.is_away();
        assert!(!primary.is_tried(patience));
        tokio::time::advance(AGAIN).await;
        assert!(primary.is_tried(patience));
        assert!(!primary.is_tried(patience), "another one tries");
        primary.is_away();
        tokio::time::advance(AGAIN).await;
        assert!(primary.is_tried(patience));
        primary.is_there();
        assert!(primary.is_tried(patience) && primary.is_tried(patience));
    }
}
