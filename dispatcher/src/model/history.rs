//! What operators ask: which notifications there were, how far one is, sums.

use common::ids::{Name, NotificationId};

use super::{Channel, Delivery, DeliveryState, Kind, Micros, Notification};

/// Which notifications of a tenant.
#[derive(Debug, Clone, Default)]
pub struct SentFilter {
    /// Of this sender.
    pub sender: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this category.
    pub category: Option<String>,
    /// Of this source.
    pub source: Option<String>,
    /// With this in title or text.
    pub text: Option<String>,
    /// With a delivery by this channel.
    pub channel: Option<Channel>,
    /// With a delivery for this user; with `channel`, by that channel.
    pub user: Option<Name>,
    /// Accepted then or later.
    pub since: Option<Micros>,
    /// Accepted before.
    pub until: Option<Micros>,
    /// What the deliveries amount to: a word of [`overall_status`](super::overall_status).
    pub status: Option<&'static str>,
}

/// A page of a tenant's notifications, the newest first.
#[derive(Debug, Clone)]
pub struct SentPage {
    /// Each with what its deliveries amount to.
    pub notifications: Vec<(Notification, String)>,
    /// The next page begins after this one; none: there is no more. A page may be short, or empty, and have a next one.
    pub next: Option<NotificationId>,
}

/// How far a notification is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Deliveries by channel, state and reason.
    pub counts: Vec<(Channel, DeliveryState, Option<String>, u64)>,
    /// The first of those that failed.
    pub failures: Vec<Delivery>,
    /// Whether a group's fan-out has ended, where there is one.
    pub fan_out: Option<bool>,
    /// Last change.
    pub updated_at: Option<Micros>,
}

/// Sums over the newest notifications of a time.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// How many notifications were looked at.
    pub notifications: u64,
    /// The first of them.
    pub since: Option<Micros>,
    /// Whether these were all of the time that was asked for.
    pub complete: bool,
    /// Their deliveries by channel and state.
    pub deliveries: Vec<(Channel, DeliveryState, u64)>,
}
