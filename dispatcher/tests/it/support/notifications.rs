//! Notifications to send: one with defaults, and what can be added to it.

use std::time::Duration;

use common::{
    ids::{DeliveryId, NotificationId},
    target::{Audience, Target},
};
use dispatcher::model::{
    Channel, Content, DeliveryState, GroupJob, InboxRoute, Lane, Micros, NewDelivery, NewNotification,
    Strategy,
};

use super::{name, tenant, user_key};

/// A notification to one user; the functions below add to it.
pub(crate) fn notification(user: &str) -> NewNotification {
    let now = Micros::now();
    NewNotification {
        id: NotificationId::generate(),
        tenant: tenant(),
        sender: "test".to_owned(),
        audience: Some(Audience::from(Target::User(name(user)))),
        content: Content {
            title: "A title".to_owned(),
            content: "A text".to_owned(),
            priority: "normal".into(),
            ..Content::default()
        },
        lane: Lane::Medium,
        strategy: Strategy::All,
        channels: Vec::new(),
        inbox: Vec::new(),
        deliveries: Vec::new(),
        chains: Vec::new(),
        job: None,
        created_at: now,
        visible_at: now,
        expires_at: None,
        idempotency: Vec::new(),
    }
}

/// With a row in the user's inbox.
pub(crate) fn in_inbox(mut notification: NewNotification, user: &str) -> NewNotification {
    notification.inbox.push(InboxRoute {
        key: user_key(user),
        filter: None,
    });
    let state = if notification.visible_at > notification.created_at {
        DeliveryState::Pending
    } else {
        DeliveryState::Delivered
    };
    notification.deliveries.push(NewDelivery {
        state,
        ..delivery(&notification, Channel::InApp)
    });
    notification
}

/// With an email.
pub(crate) fn by_email(mut notification: NewNotification, address: &str) -> NewNotification {
    notification.deliveries.push(NewDelivery {
        address: Some(address.to_owned()),
        ..delivery(&notification, Channel::Email)
    });
    notification
}

/// With a call of a URL.
pub(crate) fn by_webhook(mut notification: NewNotification, url: &str) -> NewNotification {
    notification.deliveries.push(NewDelivery {
        user: Some(name("u1")),
        address: Some(url.to_owned()),
        ..delivery(&notification, Channel::Webhook)
    });
    notification
}

/// With a job that sends emails to all contacts of a group.
pub(crate) fn to_group(mut notification: NewNotification, target: Target) -> NewNotification {
    let audience = Audience::from(target);
    notification.audience = Some(audience.clone());
    notification.job = Some(GroupJob {
        audience,
        channels: vec![Channel::Email],
    });
    notification
}

/// A notification that is an email and nothing else.
pub(crate) fn email(address: &str) -> NewNotification {
    by_email(notification("u1"), address)
}

/// With a frame: held by the acceptor, or left to the queue where it is scheduled.
pub(crate) fn by_realtime(mut notification: NewNotification, user: Option<&str>) -> NewNotification {
    let scheduled = notification.visible_at > notification.created_at;
    notification.deliveries.push(NewDelivery {
        user: user.map(name),
        state: if scheduled {
            DeliveryState::Pending
        } else {
            DeliveryState::Running
        },
        lease_until: (!scheduled).then(|| Micros::now().plus(Duration::from_secs(2))),
        ..delivery(&notification, Channel::Realtime)
    });
    notification
}

/// To be seen later.
pub(crate) fn later(mut notification: NewNotification, by: Duration) -> NewNotification {
    notification.visible_at = notification.created_at.plus(by);
    notification
}

fn delivery(notification: &NewNotification, channel: Channel) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel,
        user: None,
        address: None,
        state: DeliveryState::Pending,
        reason: None,
        due_at: notification.visible_at,
        lease_until: None,
        max_attempts: 3,
    }
}
