//! S1, the Zhilian OS realtime notification system.

use serde_json::{Value, json};

use crate::api::{Api, Who};

const CREATE: &str = r#"{
  "title": "库存预警",
  "message": "鸡肉库存不足,当前库存: 5kg,请及时补货",
  "type": "warning",
  "priority": "high",
  "user_id": "user-123",  // 可选,发给特定用户
  "role": "store_manager",  // 可选,发给特定角色
  "store_id": "store-123",  // 可选,发给特定门店
  "extra_data": {
    "item_id": "item-456",
    "current_stock": 5
  },
  "source": "inventory_system"
}"#;

/// Every field of the document's answer is there with its value; `null` there is `null` here.
#[track_caller]
fn has_shape(answer: &Value, document: &Value) {
    for (name, value) in document.as_object().unwrap() {
        assert_eq!(answer.get(name), Some(value), "{name}: {answer}");
    }
}

async fn created(api: &Api) -> Value {
    api.json("POST", &Who::service(), "/api/v1/notifications", CREATE)
        .await
        .expect(201)
}

#[tokio::test]
async fn s1_3_create() {
    let api = Api::new().await;
    let made = created(&api).await;
    has_shape(
        &made,
        &json!({
            "title": "库存预警",
            "message": "鸡肉库存不足,当前库存: 5kg,请及时补货",
            "type": "warning",
            "priority": "high",
            "user_id": "user-123",
            "role": null,
            "store_id": null,
            "is_read": false,
            "read_at": null,
            "extra_data": { "item_id": "item-456", "current_stock": 5 },
            "source": "inventory_system",
        }),
    );
    assert!(made["id"].is_string() && made["created_at"].is_string());
    // The user wins over role and store.
    let colleague = Who::user("user-9").role("store_manager").store("store-123");
    assert!(api.titles(&colleague).await.is_empty());
}

#[tokio::test]
async fn s1_3_list_count_read_delete() {
    let api = Api::new().await;
    let who = Who::user("user-123");
    let made = created(&api).await;
    let list = api
        .get(&who, "/api/v1/notifications?is_read=false&limit=20&offset=0")
        .await
        .expect(200);
    assert_eq!(list.as_array().unwrap().len(), 1);
    has_shape(
        &list[0],
        &json!({
            "id": made["id"],
            "title": "库存预警",
            "message": "鸡肉库存不足,当前库存: 5kg,请及时补货",
            "type": "warning",
            "priority": "high",
            "is_read": false,
            "created_at": made["created_at"],
        }),
    );
    let count = api
        .get(&who, "/api/v1/notifications/unread-count")
        .await
        .expect(200);
    assert_eq!(count, json!({ "unread_count": 1 }));

    let path = format!("/api/v1/notifications/{}", made["id"].as_str().unwrap());
    let read = api.put(&who, &format!("{path}/read")).await.expect(200);
    has_shape(&read, &json!({ "success": true, "message": "已标记为已读" }));
    assert_eq!(api.unread(&who).await, 0);

    for _ in 0..5 {
        created(&api).await;
    }
    let all = api.put(&who, "/api/v1/notifications/read-all").await.expect(200);
    has_shape(
        &all,
        &json!({ "success": true, "message": "已标记5条通知为已读", "count": 5 }),
    );

    let deleted = api.delete(&who, &path).await.expect(200);
    has_shape(&deleted, &json!({ "success": true, "message": "通知已删除" }));
    assert_eq!(api.get(&who, &path).await.status, 404);
}

const MULTI_CHANNEL: &str = r#"{
  "channels": ["email", "sms", "wechat"],
  "recipient": "user@example.com",  // 或手机号/微信ID
  "title": "订单确认",
  "content": "您的订单已确认,预计30分钟送达",
  "extra_data": {
    "order_id": "order-123"
  }
}"#;

async fn multi_channel(api: &Api) -> Value {
    let path = "/api/v1/notifications/multi-channel";
    api.json("POST", &Who::service(), path, MULTI_CHANNEL)
        .await
        .expect(201)
}

#[tokio::test]
async fn s1_3_multi_channel() {
    let (mut mails, api) = Api::with_mails().await;
    let sent = multi_channel(&api).await;
    // The document's system has SMS configured; here it is not.
    has_shape(
        &sent,
        &json!({
            "success": true,
            "message": "通知已发送",
            "results": { "email": true, "sms": false, "wechat": false },
        }),
    );
    let mail = mails.mail().await;
    assert_eq!(mail.to, "user@example.com");
    assert!(api.titles(&Who::user("user@example.com")).await.is_empty());
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn s1_3_multi_channel_with_nothing_configured() {
    let api = Api::new().await;
    let sent = multi_channel(&api).await;
    has_shape(
        &sent,
        &json!({ "success": false, "results": { "email": false, "sms": false, "wechat": false }, "status": "failed" }),
    );
}

#[tokio::test]
async fn s1_3_template() {
    let (mut mails, api) = Api::with_mails().await;
    let body = r#"{
  "template_name": "inventory_low",
  "recipient": "manager@example.com",
  "template_vars": {
    "item_name": "鸡肉",
    "current_stock": 5
  }
}"#;
    let path = "/api/v1/notifications/template";
    let sent = api.json("POST", &Who::service(), path, body).await.expect(201);
    has_shape(
        &sent,
        &json!({ "success": true, "message": "模板通知已发送", "template": "inventory_low" }),
    );
    // An address has no inbox, so `system` cannot be true for it.
    assert_eq!(sent["results"], json!({ "email": true, "system": false }));
    assert_eq!(mails.mail().await.to, "manager@example.com");

    let to_user = json!({ "template_name": "inventory_low", "user_id": "u1", "recipient": "manager@example.com", "template_vars": { "item_name": "鸡肉", "current_stock": 5 } });
    let sent = api.post(&Who::service(), path, &to_user).await.expect(201);
    assert_eq!(sent["results"], json!({ "email": true, "system": true }));
    let list = api
        .get(&Who::user("u1"), "/api/v1/notifications")
        .await
        .expect(200);
    assert_eq!(
        (&list[0]["title"], &list[0]["message"]),
        (
            &json!("库存预警"),
            &json!("商品 鸡肉 库存不足，当前库存: 5，请及时补货。")
        )
    );
}

#[tokio::test]
async fn s1_5_the_eight_templates() {
    let api = Api::new().await;
    let answer = api
        .get(&Who::user("u1"), "/api/v1/notifications/templates")
        .await
        .expect(200);
    assert_eq!(answer["count"], 8);
    has_shape(
        &answer["templates"],
        &json!({
            "order_confirmed": {
                "title": "订单确认",
                "content": "您的订单 {order_id} 已确认，预计 {estimated_time} 送达。",
                "channels": ["sms", "app_push"],
                "priority": "normal"
            },
            "inventory_low": {
                "title": "库存预警",
                "content": "商品 {item_name} 库存不足，当前库存: {current_stock}，请及时补货。",
                "channels": ["email", "system"],
                "priority": "high"
            }
        }),
    );
    for (name, title, channels) in [
        ("order_ready", "订单已完成", json!(["sms", "app_push"])),
        ("staff_schedule", "排班通知", json!(["sms", "app_push"])),
        ("payment_success", "支付成功", json!(["sms", "wechat"])),
        ("backup_completed", "数据备份完成", json!(["email", "system"])),
        ("backup_failed", "数据备份失败", json!(["email", "system"])),
        ("system_alert", "系统告警", json!(["email", "sms", "system"])),
    ] {
        let template = &answer["templates"][name];
        assert_eq!(
            (&template["title"], &template["channels"]),
            (&json!(title), &channels),
            "{name}"
        );
        assert!(template["content"].as_str().unwrap().contains('{'), "{name}");
    }
}

#[tokio::test]
async fn s1_3_stats() {
    let api = Api::new().await;
    created(&api).await;
    let stats = api
        .get(&Who::user("user-123"), "/api/v1/notifications/stats")
        .await
        .expect(200);
    for key in [
        "connections",
        "users_online",
        "created",
        "sent",
        "failed",
        "unread",
    ] {
        assert!(stats[key].is_u64(), "{key}: {stats}");
    }
}

#[tokio::test]
async fn s1_2_user_role_store_everyone() {
    let api = Api::new().await;
    let service = Who::service().scope("notifications:broadcast");
    for (name, fields) in [
        ("user", json!({ "user_id": "u1" })),
        ("role", json!({ "role": "cook" })),
        ("store", json!({ "store_id": "s1" })),
        ("all", json!({})),
    ] {
        let mut body = json!({ "title": name, "message": "m", "type": "info", "priority": "normal" });
        for (field, value) in fields.as_object().unwrap() {
            body[field] = value.clone();
        }
        api.post(&service, "/api/v1/notifications", &body)
            .await
            .expect(201);
    }
    for (who, titles) in [
        (Who::user("u1"), vec!["all", "user"]),
        (Who::user("u2").role("cook"), vec!["all", "role"]),
        (Who::user("u3").store("s1"), vec!["all", "store"]),
        (Who::user("u4"), vec!["all"]),
        (Who::user("u1").role("cook").store("s1").tenant("t2"), vec![]),
    ] {
        let mut seen = api.titles(&who).await;
        seen.sort();
        assert_eq!(seen, titles);
    }
}

/// `create_bulk_notifications` and `mark_bulk_as_read` of the document, over HTTP.
#[tokio::test]
async fn s1_11_bulk_create_and_bulk_read() {
    let api = Api::new().await;
    let body = r#"[
    {"title": "通知1", "message": "..."},
    {"title": "通知2", "message": "..."}
]"#;
    let service = Who::service().scope("notifications:broadcast");
    let path = "/api/v1/notifications/bulk";
    let made = api.json("POST", &service, path, body).await.expect(200);
    has_shape(&made, &json!({ "total": 2, "created": 2, "failed": 0 }));
    // Without a target they are for everyone, which a token has to be allowed to say.
    let refused = api.json("POST", &Who::service(), path, body).await.expect(200);
    has_shape(&refused, &json!({ "created": 0, "failed": 2 }));
    let who = Who::user("user-123");
    assert_eq!(api.titles(&who).await, ["通知2", "通知1"]);
    assert_eq!(api.unread(&who).await, 2);
    let ids: Vec<_> = made["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["id"].clone())
        .collect();
    let read = api
        .json(
            "PUT",
            &who,
            "/api/v1/notifications/bulk-read",
            &json!({ "ids": ids }).to_string(),
        )
        .await
        .expect(200);
    has_shape(&read, &json!({ "success": true, "count": 2 }));
    // Never visibly stale to who changed it.
    assert_eq!(api.unread(&who).await, 0);
}

#[tokio::test]
async fn s1_4_types_and_priorities() {
    let api = Api::new().await;
    for kind in ["info", "success", "warning", "error", "alert"] {
        for priority in ["low", "normal", "high", "urgent"] {
            let body =
                json!({ "title": "T", "message": "M", "type": kind, "priority": priority, "user_id": "u1" });
            let made = api.created(&body).await;
            assert_eq!(
                (&made["type"], &made["priority"]),
                (&json!(kind), &json!(priority))
            );
        }
    }
}
