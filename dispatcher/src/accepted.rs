//! What a notification needs once it is committed, whoever commits it: to be counted, and the queue to be told.

use crate::{
    metrics::Metrics,
    model::{Channel, DeliveryState, Lane, Micros, NewNotification, Reason},
    wake::Wake,
};

/// What a notification needs after its commit.
pub(crate) struct AfterCommit {
    lane: Lane,
    /// It has deliveries for the queue.
    queued: bool,
    job: bool,
    visible_at: Micros,
    scheduled: bool,
    /// Deliveries that had their end with the acceptance: the inbox, and what has no address or no configuration.
    ended: Vec<(Channel, DeliveryState, Option<Reason>)>,
}

impl AfterCommit {
    /// Counts it, and tells the queue what there is to do.
    pub(crate) fn tell(&self, wake: &Wake, metrics: &Metrics) {
        metrics.created.inc();
        for (channel, state, reason) in &self.ended {
            match state {
                DeliveryState::Delivered => metrics.count_sent(*channel),
                _ => metrics.count_failed(*channel, reason.as_deref().unwrap_or("unknown")),
            }
        }
        if self.scheduled {
            wake.visible(self.visible_at);
            wake.due(self.visible_at);
        } else if self.queued {
            wake.lane(self.lane);
        }
        if self.job {
            wake.jobs();
        }
    }

    pub(crate) fn of(notification: &NewNotification, now: Micros) -> Self {
        let scheduled = notification.visible_at > now && notification.visible_at > notification.created_at;
        Self {
            lane: notification.lane,
            queued: notification
                .deliveries
                .iter()
                .any(|one| one.state == DeliveryState::Pending),
            job: notification.job.is_some(),
            visible_at: notification.visible_at,
            scheduled,
            ended: notification
                .deliveries
                .iter()
                .filter(|one| matches!(one.state, DeliveryState::Delivered | DeliveryState::Dead))
                .map(|one| (one.channel, one.state, one.reason.clone()))
                .collect(),
        }
    }
}
