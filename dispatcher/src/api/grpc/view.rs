//! Notifications as the contract shows them.

use proto::{
    json::{structure, timestamp},
    v1::{self, inbox_change::Change as Told},
};
use serde_json::Value;

use super::super::view::NotificationView;
use crate::model::{Change, InboxItem, Micros};

/// As its reader sees it: what [`NotificationView`] says, in the contract's types.
pub(super) fn notification(item: &InboxItem, user: &str) -> v1::Notification {
    let view = NotificationView::item(item, user);
    let time = |text: Option<String>| text.as_deref().and_then(timestamp);
    v1::Notification {
        id: view.id.to_string(),
        title: view.title,
        content: view.content,
        kind: view.kind.as_str().to_owned(),
        priority: match view.priority {
            Value::String(name) => name,
            other => other.to_string(),
        },
        user_id: view.user_id,
        role: view.role,
        store_id: view.store_id,
        is_read: view.is_read,
        read_at: time(view.read_at),
        seen_at: time(view.seen_at),
        archived_at: time(view.archived_at),
        snoozed_until: time(view.snoozed_until),
        data: view.extra_data.as_ref().and_then(Value::as_object).map(structure),
        source: view.source,
        category: view.category,
        group_key: view.group_key,
        template: view.template,
        created_at: timestamp(&view.created_at),
    }
}

/// One change of an inbox.
pub(super) fn change(change: &Change, user: &str) -> v1::InboxChange {
    let time = |at: Option<Micros>| at.and_then(|at| timestamp(&at.rfc3339()));
    let told = match change {
        Change::Upsert(item) => Told::Upsert(notification(item, user)),
        Change::State(item) => Told::State(v1::NotificationState {
            id: item.id.to_string(),
            is_read: item.is_read,
            read_at: time(item.read_at),
            archived_at: time(item.archived_at),
            snoozed_until: time(item.snoozed_until),
        }),
        Change::Delete(id) => Told::Delete(id.to_string()),
        Change::ReadAll(at) => Told::ReadAll(time(Some(*at)).unwrap_or_default()),
    };
    v1::InboxChange { change: Some(told) }
}
