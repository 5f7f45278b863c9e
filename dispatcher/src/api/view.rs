//! What answers look like: S1's names beside the canonical ones.

use common::{
    ids::{DeliveryId, NotificationId},
    target::{Audience, Target},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::chain_view::ChainView;
use crate::model::{
    Attempt, Content, Delivery, InboxItem, Kind, Micros, NewNotification, Notification, Strategy,
};

/// A notification as answers show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NotificationView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: NotificationId,
    /// Headline.
    pub title: String,
    /// The text.
    pub message: String,
    /// The text.
    pub content: String,
    /// Its kind.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind_alias: Kind,
    /// Its kind.
    pub kind: Kind,
    /// As it was given.
    pub priority: Value,
    /// The single user whom it is for.
    pub user_id: Option<String>,
    /// The role that it is for.
    pub role: Option<String>,
    /// The store that it is for.
    pub store_id: Option<String>,
    /// Whether the reader has read it.
    pub is_read: bool,
    /// When.
    pub read_at: Option<String>,
    /// For clients.
    #[schema(value_type = Option<Object>)]
    pub extra_data: Option<Value>,
    /// Who says so.
    pub source: Option<String>,
    /// When it was accepted, RFC 3339.
    pub created_at: String,
    /// Free category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Groups rows of the inbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_key: Option<String>,
    /// The template that it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// When it was on a screen of the reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<String>,
    /// When the reader put it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<String>,
    /// Until when the reader has put it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<String>,
    /// For its sender.
    #[serde(flatten)]
    pub sent: Option<SentView>,
}

/// What only the sender and administrators see.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SentView {
    /// What its deliveries amount to: `scheduled`, `pending`, `sent`, `failed`, `cancelled`, `skipped`.
    pub status: &'static str,
    /// Whom it is for.
    #[schema(value_type = Option<Object>)]
    pub to: Option<Audience>,
    /// By what, as the caller wrote it.
    pub channels: Vec<String>,
    /// When it becomes or became visible, where it was scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<String>,
    /// Not sent after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// How the channels stand to each other, where not each is on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<&'static str>,
    /// With `failover` and `escalate` one for each recipient.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<ChainView>,
    /// One for each recipient and channel; only where a single notification is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<DeliveryView>>,
}

/// One recipient by one channel.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DeliveryView {
    /// The same in all its attempts.
    #[schema(value_type = String, format = "uuid")]
    pub id: DeliveryId,
    /// By what.
    pub channel: &'static str,
    /// For whom.
    pub user_id: Option<String>,
    /// Where to; masked where it came from a contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `pending`, `running`, `delivered`, `skipped`, `suppressed`, `expired`, `cancelled` or `dead`.
    pub state: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// When it is due, or was.
    pub due_at: String,
    /// Last change.
    pub updated_at: String,
    /// In order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

/// One try.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: u32,
    /// Committed before the provider was called.
    pub started_at: String,
    /// None: on the way, or unknown.
    pub finished_at: Option<String>,
    /// `delivered`, `retry`, `throttled`, `recipient_invalid`, `rejected`, `not_configured`, `expired`, `unknown`.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What the provider said, shortened and masked.
    pub response: Option<String>,
}

/// How an answer shows addresses and attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything.
    Full,
    /// Addresses of contacts are masked: the sender may send to them and not read them.
    Sender,
    /// A recipient: neither addresses nor what providers said.
    Reader,
}

impl NotificationView {
    /// Right after it was accepted.
    pub(crate) fn created(new: &NewNotification, status: &'static str) -> Self {
        let mut view = Self::of(new.id, new.audience.as_ref(), &new.content, new.created_at);
        view.sent = Some(SentView {
            status,
            to: new.audience.clone(),
            channels: new.channels.clone(),
            scheduled_at: (new.visible_at > new.created_at).then(|| new.visible_at.rfc3339()),
            expires_at: new.expires_at.map(Micros::rfc3339),
            strategy: chained(new.strategy),
            chains: new.chains.iter().map(ChainView::of).collect(),
            deliveries: None,
        });
        view
    }

    /// For its sender or an administrator.
    pub(crate) fn stored(
        stored: &Notification,
        status: &'static str,
        deliveries: Option<Vec<DeliveryView>>,
    ) -> Self {
        let mut view = Self::of(
            stored.id,
            stored.audience.as_ref(),
            &stored.content,
            stored.created_at,
        );
        view.sent = Some(SentView {
            status: if stored.withdrawn { "cancelled" } else { status },
            to: stored.audience.clone(),
            channels: stored.channels.clone(),
            scheduled_at: (stored.visible_at > stored.created_at).then(|| stored.visible_at.rfc3339()),
            expires_at: stored.expires_at.map(Micros::rfc3339),
            strategy: chained(stored.strategy),
            chains: stored.chains.iter().map(ChainView::of).collect(),
            deliveries,
        });
        view
    }

    /// For a reader. Of several users only the reader is told.
    pub(crate) fn item(item: &InboxItem, reader: &str) -> Self {
        let mut view = Self::of(item.id, item.audience.as_ref(), &item.content, item.created_at);
        if matches!(
            item.audience,
            Some(Audience {
                target: Target::Users(_),
                ..
            })
        ) {
            view.user_id = Some(reader.to_owned());
        }
        view.with_state(item)
    }

    /// Adds the reader's own state.
    pub(crate) fn with_state(mut self, item: &InboxItem) -> Self {
        self.is_read = item.is_read;
        self.read_at = item.read_at.map(Micros::rfc3339);
        self.seen_at = item.seen_at.map(Micros::rfc3339);
        self.archived_at = item.archived_at.map(Micros::rfc3339);
        self.snoozed_until = item.snoozed_until.map(Micros::rfc3339);
        self
    }

    fn of(id: NotificationId, audience: Option<&Audience>, content: &Content, created_at: Micros) -> Self {
        let (user_id, role, store_id) = seed_target(audience);
        Self {
            id,
            title: content.title.clone(),
            message: content.content.clone(),
            content: content.content.clone(),
            kind_alias: content.kind,
            kind: content.kind,
            priority: content.priority.clone(),
            user_id,
            role,
            store_id,
            is_read: false,
            read_at: None,
            extra_data: content.data.clone(),
            source: content.source.clone(),
            created_at: created_at.rfc3339(),
            category: content.category.clone(),
            group_key: content.group_key.clone(),
            template: content.template.clone(),
            seen_at: None,
            archived_at: None,
            snoozed_until: None,
            sent: None,
        }
    }
}

/// `all` goes without saying.
fn chained(strategy: Strategy) -> Option<&'static str> {
    (strategy != Strategy::All).then(|| strategy.as_str())
}

/// S1's three fields: a user alone, a role, a store, or both of the last.
fn seed_target(audience: Option<&Audience>) -> (Option<String>, Option<String>, Option<String>) {
    let text = |name: &common::ids::Name| Some(name.as_str().to_owned());
    match audience.map(|audience| &audience.target) {
        Some(Target::User(user)) => (text(user), None, None),
        Some(Target::Users(users)) if users.len() == 1 => (users.first().and_then(text), None, None),
        Some(Target::Role(role)) => (None, text(role), None),
        Some(Target::Store(store)) => (None, None, text(store)),
        Some(Target::AllOf(members)) => match members.as_slice() {
            [Target::Role(role), Target::Store(store)] | [Target::Store(store), Target::Role(role)] => {
                (None, text(role), text(store))
            }
            _ => (None, None, None),
        },
        _ => (None, None, None),
    }
}

impl DeliveryView {
    pub(crate) fn of(delivery: &Delivery, detail: Detail) -> Self {
        let address = delivery.address.as_deref().and_then(|address| match detail {
            Detail::Full => Some(address.to_owned()),
            Detail::Sender if delivery.user.is_none() => Some(address.to_owned()),
            Detail::Sender => Some(mask(address)),
            Detail::Reader => None,
        });
        let attempts = match detail {
            Detail::Reader => Vec::new(),
            _ => delivery.attempts.iter().map(AttemptView::of).collect(),
        };
        Self {
            id: delivery.id,
            channel: delivery.channel.as_str(),
            user_id: delivery.user.as_ref().map(|user| user.as_str().to_owned()),
            address,
            state: delivery.state.as_str(),
            reason: delivery.reason.clone(),
            due_at: delivery.due_at.rfc3339(),
            updated_at: delivery.updated_at.rfc3339(),
            attempts,
        }
    }
}

impl AttemptView {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            started_at: attempt.started_at.rfc3339(),
            finished_at: attempt.finished_at.map(Micros::rfc3339),
            outcome: attempt.outcome.clone(),
            reason: attempt.reason.clone(),
            response: attempt.response.clone(),
        }
    }
}

/// Keeps the first character of each half of an email address, and the ends of anything else.
pub(super) fn mask(address: &str) -> String {
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    if let Some((local, domain)) = address.rsplit_once('@') {
        let tail = domain
            .rsplit_once('.')
            .map(|(_, tail)| format!(".{tail}"))
            .unwrap_or_default();
        return format!("{}***@{}***{tail}", first(local), first(domain));
    }
    let chars: Vec<char> = address.chars().collect();
    if chars.len() < 8 {
        return "***".to_owned();
    }
    let ends: (String, String) = (
        chars[..2].iter().collect(),
        chars[chars.len() - 2..].iter().collect(),
    );
    format!("{}***{}", ends.0, ends.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_no_address() {
        for (address, masked) in [
            ("user@example.com", "u***@e***.com"),
            ("13800138000", "13***00"),
            ("abc", "***"),
            ("张三@例子.中国", "张***@例***.中国"),
        ] {
            assert_eq!(mask(address), masked);
        }
    }
}
