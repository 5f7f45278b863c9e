//! The eight templates that every tenant has (S1.5). The first two have the texts of the reference document.

use std::sync::LazyLock;

use uuid::Uuid;

use crate::model::{Kind, Micros, NewTemplate, Syntax, Template};

struct Predefined {
    name: &'static str,
    title: &'static str,
    content: &'static str,
    channels: &'static [&'static str],
    priority: &'static str,
    kind: Kind,
}

const SMS_APP: &[&str] = &["sms", "app_push"];
const EMAIL_SYSTEM: &[&str] = &["email", "system"];

const PREDEFINED: [Predefined; 8] = [
    Predefined {
        name: "order_confirmed",
        title: "订单确认",
        content: "您的订单 {order_id} 已确认，预计 {estimated_time} 送达。",
        channels: SMS_APP,
        priority: "normal",
        kind: Kind::Success,
    },
    Predefined {
        name: "order_ready",
        title: "订单已完成",
        content: "您的订单 {order_id} 已完成，请及时取餐。",
        channels: SMS_APP,
        priority: "high",
        kind: Kind::Success,
    },
    Predefined {
        name: "inventory_low",
        title: "库存预警",
        content: "商品 {item_name} 库存不足，当前库存: {current_stock}，请及时补货。",
        channels: EMAIL_SYSTEM,
        priority: "high",
        kind: Kind::Warning,
    },
    Predefined {
        name: "staff_schedule",
        title: "排班通知",
        content: "您好 {staff_name}，您的排班已更新: {schedule_date} {shift_time}，请准时到岗。",
        channels: SMS_APP,
        priority: "normal",
        kind: Kind::Info,
    },
    Predefined {
        name: "payment_success",
        title: "支付成功",
        content: "您的订单 {order_id} 支付成功，金额: {amount} 元。",
        channels: &["sms", "wechat"],
        priority: "normal",
        kind: Kind::Success,
    },
    Predefined {
        name: "backup_completed",
        title: "数据备份完成",
        content: "数据备份 {backup_name} 已于 {backup_time} 完成。",
        channels: EMAIL_SYSTEM,
        priority: "low",
        kind: Kind::Success,
    },
    Predefined {
        name: "backup_failed",
        title: "数据备份失败",
        content: "数据备份 {backup_name} 失败，原因: {error_message}，请尽快处理。",
        channels: EMAIL_SYSTEM,
        priority: "urgent",
        kind: Kind::Error,
    },
    Predefined {
        name: "system_alert",
        title: "系统告警",
        content: "系统告警: {alert_message}，时间: {alert_time}，请立即处理。",
        channels: &["email", "sms", "system"],
        priority: "urgent",
        kind: Kind::Alert,
    },
];

static TEMPLATES: LazyLock<[Template; 8]> = LazyLock::new(|| PREDEFINED.map(|given| template(&given)));

/// The predefined templates, in the order of the document.
#[must_use]
pub(crate) fn predefined() -> &'static [Template; 8] {
    &TEMPLATES
}

/// The predefined template of this name or id.
#[must_use]
pub(crate) fn find(name_or_id: &str) -> Option<&'static Template> {
    let id = Uuid::parse_str(name_or_id).ok();
    TEMPLATES
        .iter()
        .find(|template| template.body.name == name_or_id || Some(template.id) == id)
}

fn template(given: &Predefined) -> Template {
    Template {
        // The same on every server and at every start, so that an id that a caller kept stays good.
        id: Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("carillon.template.{}", given.name).as_bytes(),
        ),
        tenant: None,
        version: 1,
        body: NewTemplate {
            name: given.name.to_owned(),
            title: given.title.to_owned(),
            content: given.content.to_owned(),
            html: None,
            channels: given.channels.iter().map(|name| (*name).to_owned()).collect(),
            priority: Some(given.priority.to_owned()),
            kind: Some(given.kind),
            variables: Vec::new(),
            syntax: Syntax::Format,
        },
        created_at: Micros(0),
        updated_at: Micros(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Channel, Lane},
        template::{compile, environment},
    };

    #[test]
    fn all_eight_compile_and_name_known_channels() {
        assert_eq!(predefined().len(), 8);
        for template in predefined() {
            let compiled = compile(&environment(), &template.body).unwrap();
            assert!(!compiled.variables().is_empty(), "{}", template.body.name);
            for channel in &template.body.channels {
                assert!(channel.parse::<Channel>().is_ok(), "{channel}");
            }
            assert!(
                template
                    .body
                    .priority
                    .as_deref()
                    .and_then(Lane::of_priority)
                    .is_some()
            );
            assert_eq!(find(&template.id.to_string()), Some(template));
        }
    }
}
