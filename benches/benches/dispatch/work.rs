//! Notifications as the API would make them.

use common::{
    ids::{DeliveryId, Name, NotificationId, TenantId},
    target::{Audience, Target},
    topic::TopicKey,
};
use dispatcher::model::{
    Channel, Content, DeliveryState, InboxRoute, Lane, Micros, NewDelivery, NewNotification, ReaderKeys,
    Strategy,
};

/// Whose inboxes get rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Inbox {
    /// So many users, in turn.
    Users(u64),
    /// Everybody's who has the one role: all rows take a position of one counter.
    Role,
}

fn tenant() -> TenantId {
    TenantId::new("bench").expect("a tenant's id")
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn notification(target: Target) -> NewNotification {
    let now = Micros::now();
    NewNotification {
        id: NotificationId::generate(),
        tenant: tenant(),
        sender: "bench".to_owned(),
        audience: Some(Audience::from(target)),
        content: Content {
            title: "Order 4711 has been shipped".to_owned(),
            content: "Your order 4711 left our warehouse in Hamburg and will be with you tomorrow."
                .to_owned(),
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

fn delivery(notification: &NewNotification, channel: Channel, state: DeliveryState) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel,
        user: None,
        address: None,
        state,
        reason: None,
        due_at: notification.visible_at,
        lease_until: None,
        max_attempts: 4,
    }
}

/// One of those who read beside: with the one role, and none of those who get something of their own.
pub(crate) fn reader(number: u64) -> ReaderKeys {
    let (tenant, user) = (tenant(), name(&format!("reader{number}")));
    let keys = vec![
        TopicKey::user(&tenant, &user),
        TopicKey::role(&tenant, &name("staff")),
    ];
    ReaderKeys { tenant, user, keys }
}

/// A row in an inbox and its delivery, which ends with it.
pub(crate) fn in_inbox(inbox: Inbox, number: u64) -> NewNotification {
    let (target, key) = match inbox {
        Inbox::Users(users) => {
            let user = name(&format!("u{}", number % users));
            (Target::User(user.clone()), TopicKey::user(&tenant(), &user))
        }
        Inbox::Role => {
            let role = name("staff");
            (Target::Role(role.clone()), TopicKey::role(&tenant(), &role))
        }
    };
    let mut notification = notification(target);
    notification.channels.push("in_app".to_owned());
    notification.inbox.push(InboxRoute { key, filter: None });
    let row = delivery(&notification, Channel::InApp, DeliveryState::Delivered);
    notification.deliveries.push(row);
    notification
}

/// One mail.
pub(crate) fn by_email(number: u64) -> NewNotification {
    let mut notification = notification(Target::User(name(&format!("u{number}"))));
    notification.channels.push("email".to_owned());
    let mail = NewDelivery {
        address: Some(format!("u{number}@example.com")),
        ..delivery(&notification, Channel::Email, DeliveryState::Pending)
    };
    notification.deliveries.push(mail);
    notification
}
