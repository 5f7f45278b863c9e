//! Contacts.

use serde_json::json;

use super::{Api, Who};

#[tokio::test]
async fn contacts_are_put_read_and_deleted() {
    let api = Api::new().await;
    let admin = Who::user("admin").scope("contacts:write");
    let contact = json!({ "email": "u1@example.com", "phone": "13800138000", "language": "zh-CN", "time_zone": "Asia/Shanghai", "roles": ["cook"] });
    let path = "/api/v1/contacts/u1";
    assert_eq!(api.get(&admin, path).await.status, 404);
    api.json("PUT", &admin, path, &contact.to_string())
        .await
        .expect(200);
    assert_eq!(api.get(&admin, path).await.expect(200), contact);
    assert_eq!(
        api.get(&Who::user("u1"), path).await.expect(200),
        contact,
        "one's own"
    );
    assert_eq!(api.get(&Who::user("u2"), path).await.problem().1, "scope_missing");
    assert_eq!(api.get(&admin.clone().tenant("t2"), path).await.status, 404);
    api.delete(&admin, path).await.expect(200);
    assert_eq!(api.delete(&admin, path).await.status, 404);
}

#[tokio::test]
async fn many_are_put_at_once_or_none() {
    let api = Api::new().await;
    let admin = Who::user("admin").scope("contacts:write");
    let body =
        json!({ "contacts": { "u1": { "email": "u1@example.com" }, "张三": { "phone": "13800138000" } } });
    let answer = api
        .json("PUT", &admin, "/api/v1/contacts", &body.to_string())
        .await
        .expect(200);
    assert_eq!(answer["count"], 2);
    assert_eq!(
        api.get(&admin, "/api/v1/contacts/%E5%BC%A0%E4%B8%89")
            .await
            .expect(200)["phone"],
        "13800138000"
    );
    let bad = json!({ "contacts": { "u3": { "email": "u3@example.com" }, "u4": { "email": "no address" } } });
    let answer = api
        .json("PUT", &admin, "/api/v1/contacts", &bad.to_string())
        .await;
    assert_eq!(
        answer.problem(),
        (
            422,
            "invalid_address".to_owned(),
            Some("contacts.u4.email".to_owned())
        )
    );
    assert_eq!(api.get(&admin, "/api/v1/contacts/u3").await.status, 404);
}

#[tokio::test]
async fn bad_contacts_name_the_field() {
    let api = Api::new().await;
    let admin = Who::user("admin").scope("contacts:write");
    for (contact, code, field) in [
        (json!({ "email": "nonsense" }), "invalid_address", "email"),
        (json!({ "phone": "call me" }), "invalid_address", "phone"),
        (
            json!({ "webhook_url": "ftp://x" }),
            "invalid_address",
            "webhook_url",
        ),
        (
            json!({ "time_zone": "Mars/Olympus" }),
            "invalid_value",
            "time_zone",
        ),
        (json!({ "language": "zh_CN!" }), "invalid_value", "language"),
        (json!({ "fax": "1" }), "unknown_field", "fax"),
        (json!({ "roles": "cook" }), "invalid_value", "roles"),
    ] {
        let answer = api
            .json("PUT", &admin, "/api/v1/contacts/u1", &contact.to_string())
            .await;
        assert_eq!(
            answer.problem(),
            (422, code.to_owned(), Some(field.to_owned())),
            "{contact}"
        );
    }
    assert_eq!(api.get(&admin, "/api/v1/contacts/u1").await.status, 404);
}
