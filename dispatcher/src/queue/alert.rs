//! What administrators are told when a channel failed.

use common::{
    config::Span,
    ids::{DeliveryId, Name, NotificationId},
    target::{Audience, Target},
    topic::TopicKey,
};
use serde_json::json;

use crate::{
    model::{
        Channel, Content, DeliveryState, IdempotencyKey, InboxRoute, Kind, Lane, Micros, NewDelivery,
        NewNotification, Strategy,
    },
    store::FailedOver,
};

/// Who says so.
const SENDER: &str = "carillon";

/// A notification to the tenant's administrators. Its key is the tenant's stretch of time, so that of all that is told in it,
/// by whatever process, one is stored.
pub(super) fn of(one: &FailedOver, role: &Name, every: Span, lease_until: Micros) -> NewNotification {
    let now = Micros::now();
    let every = i64::try_from(every.0.as_micros()).unwrap_or(i64::MAX).max(1);
    let key = format!("failover:{}", now.0.div_euclid(every));
    let failed: Vec<_> = one
        .chain
        .steps
        .iter()
        .filter(|step| step.is_news())
        .map(|step| {
            let reason = step.reason.as_deref().unwrap_or("unknown");
            (step.channel.as_str(), reason)
        })
        .collect();
    let names: Vec<&str> = failed.iter().map(|(channel, _)| *channel).collect();
    let failures: Vec<_> = failed
        .iter()
        .map(|(channel, reason)| format!("{channel} ({reason})"))
        .collect();
    let id = NotificationId::generate();
    let delivery = |channel, state, lease_until| NewDelivery {
        id: DeliveryId::generate(),
        channel,
        user: None,
        address: None,
        state,
        reason: None,
        due_at: now,
        lease_until,
        max_attempts: 1,
    };
    NewNotification {
        id,
        tenant: one.tenant.clone(),
        sender: SENDER.to_owned(),
        audience: Some(Audience::from(Target::Role(role.clone()))),
        content: Content {
            title: format!("Channel failed: {}", names.join(", ")),
            content: format!(
                "Notification {} could not be delivered by {}. Its failover {}. Others that fail in the next minutes are only \
                 in the log and in the metrics.",
                one.notification,
                failures.join(", "),
                if one.chain.is_open() {
                    "goes on"
                } else {
                    "has ended"
                },
            ),
            kind: Kind::Warning,
            priority: json!("high"),
            category: Some("failover".to_owned()),
            data: Some(json!({ "notification_id": one.notification, "channels": names })),
            source: Some(SENDER.to_owned()),
            ..Content::default()
        },
        lane: Lane::High,
        strategy: Strategy::All,
        channels: vec!["in_app".to_owned(), "realtime".to_owned()],
        inbox: vec![InboxRoute {
            key: TopicKey::role(&one.tenant, role),
            filter: None,
        }],
        deliveries: vec![
            delivery(Channel::InApp, DeliveryState::Delivered, None),
            delivery(Channel::Realtime, DeliveryState::Running, Some(lease_until)),
        ],
        chains: Vec::new(),
        job: None,
        created_at: now,
        visible_at: now,
        expires_at: None,
        idempotency: vec![IdempotencyKey {
            credential: SENDER.to_owned(),
            route: "alerts".into(),
            request_hash: key.clone().into_bytes(),
            key,
            status: 201,
            response: String::new(),
        }],
    }
}
