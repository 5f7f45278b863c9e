//! The rules that every tenant has (S3.4): the five events of the reference document, by its channels. A template of the
//! tenant's with the named name takes the place of the texts.

use serde_json::{Value, json};

use crate::model::{EventRule, RuleBody};

/// The five.
#[must_use]
pub(crate) fn builtin() -> Vec<EventRule> {
    let rule = |event: &str, notification: Value| EventRule {
        name: event.to_owned(),
        version: 0,
        body: RuleBody {
            event: event.to_owned(),
            when: None,
            notification: match notification {
                Value::Object(members) => members,
                _ => serde_json::Map::new(),
            },
            enabled: true,
        },
    };
    vec![
        rule(
            "document.indexed",
            json!({
                "user_id": "{{ user_id }}",
                "recipient": "{{ email|default(none) }}",
                "channels": ["email", "in_app"],
                "kind": "success",
                "template": "tmpl_document_indexed",
                "title": "文档索引完成",
                "content": "您的文档《{{ document_name }}》已完成索引。",
                "variables": {
                    "document_name": "{{ document_name }}",
                    "document_id": "{{ document_id|default(none) }}",
                },
                "data": {"event_type": "{{ event.type }}", "document_id": "{{ document_id|default(none) }}"},
            }),
        ),
        rule(
            "task.completed",
            json!({
                "user_id": "{{ creator_id|default(user_id) }}",
                "channels": ["in_app"],
                "kind": "success",
                "template": "tmpl_task_completed",
                "title": "任务完成",
                "content": "您的任务《{{ task_name|default(task_id) }}》已完成。",
                "variables": {
                    "task_name": "{{ task_name|default(task_id) }}",
                    "task_id": "{{ task_id|default(none) }}",
                },
                "data": {"event_type": "{{ event.type }}", "task_id": "{{ task_id|default(none) }}"},
            }),
        ),
        rule(
            "user.registered",
            json!({
                "user_id": "{{ user_id|default(none) }}",
                "recipient": "{{ email|default(none) }}",
                "channels": ["email"],
                "template": "tmpl_welcome",
                "title": "欢迎加入",
                "content": "您好 {{ user_name|default(username)|default(email)|default(user_id) }}，欢迎您的加入！",
                "variables": {
                    "user_name": "{{ user_name|default(username)|default(email)|default(user_id) }}",
                    "email": "{{ email|default(none) }}",
                },
                "data": {"event_type": "{{ event.type }}"},
            }),
        ),
        rule(
            "payment.success",
            json!({
                "user_id": "{{ user_id|default(none) }}",
                "recipient": "{{ email|default(none) }}",
                "channels": ["email"],
                "kind": "success",
                "priority": "high",
                "template": "tmpl_payment_success",
                "title": "支付成功账单",
                "content": "您的订单 {{ order_id }} 支付成功，金额: {{ amount }} {{ currency|default('元') }}。",
                "variables": {
                    "order_id": "{{ order_id }}",
                    "amount": "{{ amount }}",
                    "currency": "{{ currency|default('元') }}",
                },
                "data": {"event_type": "{{ event.type }}", "order_id": "{{ order_id }}"},
            }),
        ),
        rule(
            "conversation.message.sent",
            json!({
                "user_id": "{{ recipient_id|default(user_id) }}",
                "channels": ["realtime"],
                "template": "tmpl_message_sent",
                "title": "{{ sender_name|default('新消息') }}",
                "content": "{{ content|default(message)|default('您有一条新消息') }}",
                "variables": {
                    "sender_name": "{{ sender_name|default('新消息') }}",
                    "content": "{{ content|default(message)|default('您有一条新消息') }}",
                },
                "data": {
                    "event_type": "{{ event.type }}",
                    "conversation_id": "{{ conversation_id|default(none) }}",
                    "message_id": "{{ message_id|default(none) }}",
                },
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::Rule, template::environment};

    #[test]
    fn s3_4_the_five_compile_and_are_about_their_events() {
        let rules = builtin();
        assert_eq!(rules.len(), 5);
        for rule in rules {
            let name = rule.name.clone();
            assert!(Rule::compile(&environment(), rule).unwrap().is_about(&name));
        }
    }
}
