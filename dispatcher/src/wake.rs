//! How the queue learns that there is work: from who made it, not by polling.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU8, Ordering},
};

use tokio::sync::Notify;

use crate::model::{Lane, Micros};

const LANES: usize = Lane::COUNT;

/// Tells the queue of work. Cheap to clone. To be called after the commit that made the work.
#[derive(Debug, Clone)]
pub struct Wake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Bit `n`: lane `n` may have work that is due.
    lanes: AtomicU8,
    /// The earliest known time at which something becomes due; [`i64::MAX`] for none.
    due: AtomicI64,
    /// The earliest known time at which a scheduled notification becomes visible.
    visible: AtomicI64,
    queue: Notify,
    jobs: Notify,
    schedules: Notify,
}

impl Default for Wake {
    fn default() -> Self {
        // At the start everything may be due.
        Self(Arc::new(Inner {
            lanes: AtomicU8::new(u8::MAX),
            due: AtomicI64::new(i64::MAX),
            visible: AtomicI64::new(0),
            queue: Notify::new(),
            jobs: Notify::new(),
            schedules: Notify::new(),
        }))
    }
}

impl Wake {
    /// Deliveries of this lane are due.
    pub fn lane(&self, lane: Lane) {
        self.0.lanes.fetch_or(1 << lane.number(), Ordering::AcqRel);
        self.0.queue.notify_one();
    }

    /// Deliveries of any lane may be due.
    pub fn all(&self) {
        self.0.lanes.fetch_or(u8::MAX, Ordering::AcqRel);
        self.0.queue.notify_one();
    }

    /// A delivery becomes due at a time.
    pub fn due(&self, at: Micros) {
        if self.0.due.fetch_min(at.0, Ordering::AcqRel) > at.0 {
            self.0.queue.notify_one();
        }
    }

    /// A scheduled notification becomes visible at a time.
    pub fn visible(&self, at: Micros) {
        if self.0.visible.fetch_min(at.0, Ordering::AcqRel) > at.0 {
            self.0.queue.notify_one();
        }
    }

    /// A group waits for its fan-out.
    pub fn jobs(&self) {
        self.0.jobs.notify_one();
    }

    /// A schedule has another next time.
    pub fn schedules(&self) {
        self.0.schedules.notify_one();
    }

    /// Room for further deliveries.
    pub(crate) fn room(&self) {
        self.0.queue.notify_one();
    }

    /// As [`Wake::due`], by the queue itself, which need not be woken.
    pub(crate) fn note_due(&self, at: Micros) {
        self.0.due.fetch_min(at.0, Ordering::AcqRel);
    }

    /// As [`Wake::visible`], by the queue itself.
    pub(crate) fn note_visible(&self, at: Micros) {
        self.0.visible.fetch_min(at.0, Ordering::AcqRel);
    }

    /// Takes the lanes that may have work.
    pub(crate) fn take_lanes(&self) -> [bool; LANES] {
        let bits = self.0.lanes.swap(0, Ordering::AcqRel);
        std::array::from_fn(|lane| bits & (1 << lane) != 0)
    }

    /// When the queue has to look by itself at the latest, as far as is known.
    pub(crate) fn next_look(&self) -> Micros {
        Micros(
            self.0
                .due
                .load(Ordering::Acquire)
                .min(self.0.visible.load(Ordering::Acquire)),
        )
    }

    /// Whether something that was known becomes due by `now`; forgets it, as the claim that follows finds it.
    pub(crate) fn take_due(&self, now: Micros) -> bool {
        take_reached(&self.0.due, now)
    }

    /// Whether a scheduled notification becomes visible by `now`; forgets it.
    pub(crate) fn take_visible(&self, now: Micros) -> bool {
        take_reached(&self.0.visible, now)
    }

    pub(crate) async fn woken(&self) {
        self.0.queue.notified().await;
    }

    pub(crate) async fn schedule(&self) {
        self.0.schedules.notified().await;
    }

    pub(crate) async fn job(&self) {
        self.0.jobs.notified().await;
    }
}

fn take_reached(at: &AtomicI64, now: Micros) -> bool {
    // A time that is set in between is put back by the one who sets it: it calls after its commit, and that is later.
    at.fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| {
        (at <= now.0).then_some(i64::MAX)
    })
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_counts_and_is_taken_once() {
        let wake = Wake::default();
        assert!(wake.take_visible(Micros(5)), "the start looks for itself");
        wake.due(Micros(20));
        wake.due(Micros(10));
        wake.due(Micros(30));
        assert_eq!(wake.next_look(), Micros(10));
        assert!(!wake.take_due(Micros(9)));
        assert!(wake.take_due(Micros(10)));
        assert!(!wake.take_due(Micros(10)));
    }

    #[test]
    fn lanes_are_taken_once() {
        let wake = Wake::default();
        assert_eq!(wake.take_lanes(), [true; LANES]);
        wake.lane(Lane::Low);
        assert_eq!(wake.take_lanes(), [false, false, false, true]);
        assert_eq!(wake.take_lanes(), [false; LANES]);
    }
}
