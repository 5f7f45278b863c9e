//! What was sent, how far it is, and sums over it.

use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::eventually;

const HISTORY: &str = "/api/v1/notifications/history";

fn admin() -> Who {
    Who::user("admin").scope("notifications:admin")
}

fn titles(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| one["title"].as_str().unwrap())
        .collect()
}

async fn send(api: &Api, who: &Who, body: &Value) -> String {
    let made = api.post(who, "/api/v1/notifications", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn operators_see_all_of_the_tenant_and_senders_their_own() {
    let api = Api::new().await;
    let body =
        |title: &str| json!({ "user_id": "u1", "title": title, "content": "C", "channels": ["in_app"] });
    let (one, two) = (Who::service(), Who::user("two").scope("notifications:write"));
    send(&api, &one, &body("a")).await;
    send(&api, &two, &body("b")).await;
    let foreign = Who::service().tenant("t2");
    send(&api, &foreign, &body("c")).await;
    for (who, query, seen) in [
        (admin(), "", vec!["b", "a"]),
        (admin(), "?for=all", vec!["b", "a"]),
        (admin(), "?for=sent", vec![]),
        (admin(), "?sender=two", vec!["b"]),
        (one.clone(), "", vec!["a"]),
        (one.clone(), "?for=sent&user_id=u1", vec!["a"]),
        (two.clone(), "?sender=two", vec!["b"]),
        (admin().tenant("t2"), "", vec!["c"]),
        (Who::user("u1"), "", vec![]),
    ] {
        let list = api.get(&who, &format!("{HISTORY}{query}")).await.expect(200);
        assert_eq!(titles(&list), seen, "{query}");
        // S0's list says the same where it is asked for what was sent.
        if query.contains("for=") {
            let list = api
                .get(&who, &format!("/api/v1/notifications{query}"))
                .await
                .expect(200);
            assert_eq!(titles(&list), seen, "{query}");
        }
    }
    for (query, field) in [("?for=all", "for"), ("?sender=two", "sender")] {
        let refused = api.get(&one, &format!("{HISTORY}{query}")).await;
        assert_eq!(
            refused.problem(),
            (403, "scope_missing".to_owned(), Some(field.to_owned()))
        );
    }
}

#[tokio::test]
async fn filters_and_pages() {
    let (mut mails, api) = Api::with_mails().await;
    let who = Who::service();
    for number in 0..5 {
        let body = json!({ "user_id": "u1", "title": format!("n{number}"), "content": "C", "channels": ["in_app"],
            "type": if number % 2 == 0 { "alert" } else { "info" }, "source": "shop", "category": "c" });
        send(&api, &who, &body).await;
    }
    let mailed = json!({ "recipient": "a@example.com", "channel": "email", "title": "mail", "content": "C" });
    let id = send(&api, &who, &mailed).await;
    mails.mail().await;
    let failed = json!({ "recipient": "13800138000", "channel": "sms", "title": "text", "content": "C" });
    send(&api, &who, &failed).await;
    eventually("the mail is sent", async || {
        let status = api.status(&who, &id).await;
        (status["status"] == "sent").then_some(())
    })
    .await;
    for (query, seen) in [
        ("status=failed", vec!["text"]),
        ("status=sent&channel=email", vec!["mail"]),
        ("type=alert", vec!["n4", "n2", "n0"]),
        ("kind=alert&q=n2", vec!["n2"]),
        (
            "source=shop&category=c&user_id=u1",
            vec!["n4", "n3", "n2", "n1", "n0"],
        ),
        ("since=2999-01-01T00:00:00Z", vec![]),
        ("until=2020-01-01T00:00:00Z", vec![]),
    ] {
        let list = api.get(&who, &format!("{HISTORY}?{query}")).await.expect(200);
        assert_eq!(titles(&list), seen, "{query}");
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&who, &format!("{HISTORY}?limit=3{after}")).await;
        let list = page.expect(200);
        seen.extend(titles(&list).into_iter().map(str::to_owned));
        match page.header("x-next-cursor") {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["text", "mail", "n4", "n3", "n2", "n1", "n0"]);
    for (query, code, field) in [
        ("status=good", "invalid_query", "status"),
        ("channel=pigeon", "unknown_channel", "channel"),
        ("kind=loud", "unknown_kind", "kind"),
        ("since=yesterday", "invalid_time", "since"),
        ("limit=0", "invalid_query", "limit"),
        ("limit=201", "invalid_query", "limit"),
        ("after=x", "invalid_cursor", "after"),
        ("for=me", "invalid_query", "for"),
        ("colour=red", "invalid_query", "colour"),
    ] {
        let refused = api.get(&who, &format!("{HISTORY}?{query}")).await;
        assert_eq!(
            refused.problem(),
            (422, code.to_owned(), Some(field.to_owned())),
            "{query}"
        );
    }
}

#[tokio::test]
async fn sums_are_by_channel() {
    let (mut mails, api) = Api::with_mails().await;
    let who = Who::service();
    let id = send(
        &api,
        &who,
        &json!({ "recipients": ["a@example.com", "13800138000"], "channels": ["email", "sms"], "title": "T", "content": "C" }),
    )
    .await;
    mails.mail().await;
    eventually("the mail is settled", async || {
        let status = api.status(&who, &id).await;
        (status["status"] == "sent").then_some(())
    })
    .await;
    let sums = api.get(&who, "/api/v1/stats").await.expect(200);
    for (field, value) in [
        ("complete", json!(true)),
        ("notifications", json!(1)),
        ("deliveries", json!(2)),
        ("sent", json!(1)),
        ("failed", json!(1)),
        ("pending", json!(0)),
        ("success_rate", json!(0.5)),
    ] {
        assert_eq!(sums[field], value, "{field}: {sums}");
    }
    assert_eq!(sums["channels"]["email"]["success_rate"], json!(1.0));
    assert_eq!(sums["channels"]["sms"]["success_rate"], json!(0.0));
    let foreign = api
        .get(&Who::service().tenant("t2"), "/api/v1/stats")
        .await
        .expect(200);
    assert_eq!(
        (&foreign["notifications"], &foreign["success_rate"]),
        (&json!(0), &json!(null))
    );
    let refused = api
        .get(
            &who,
            "/api/v1/stats?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
        )
        .await;
    assert_eq!(refused.problem().2.as_deref(), Some("since"));
    let refused = api.get(&Who::user("u1"), "/api/v1/stats").await;
    assert_eq!(refused.problem().1, "scope_missing");
}

#[tokio::test]
async fn a_job_is_its_senders_and_the_operators() {
    let api = Api::new().await;
    let who = Who::service();
    let batch =
        json!({ "user_ids": ["a", "b"], "title": "T", "content": "C", "channels": ["in_app", "sms"] });
    let made = api
        .post(&who, "/api/v1/notifications/batch", &batch)
        .await
        .expect(200);
    assert_eq!(
        (&made["status"], &made["total_users"]),
        (&json!("completed"), &json!(2))
    );
    let path = format!("/api/v1/jobs/{}", made["job_id"].as_str().unwrap());
    let job = api.get(&who, &path).await.expect(200);
    for (field, value) in [
        ("job_id", made["job_id"].clone()),
        ("status", json!("completed")),
        ("total_users", json!(2)),
        ("total", json!(3)),
        ("processed", json!(3)),
        ("progress", json!(100)),
        ("succeeded", json!(2)),
        ("failed", json!(1)),
    ] {
        assert_eq!(job[field], value, "{field}: {job}");
    }
    assert_eq!(job["errors"][0]["reason"], "not_configured");
    api.get(&admin(), &path).await.expect(200);
    for other in [
        Who::user("a"),
        admin().tenant("t2"),
        Who::user("x").scope("notifications:write"),
    ] {
        assert_eq!(api.get(&other, &path).await.problem().0, 404);
    }
    let unknown = uuid::Uuid::nil();
    for answer in [
        api.get(&who, "/api/v1/jobs/none").await,
        api.get(&who, &format!("/api/v1/jobs/{unknown}")).await,
        api.post(&who, &format!("/api/v1/jobs/{unknown}/cancel"), &json!({}))
            .await,
    ] {
        assert_eq!(answer.problem().0, 404);
        assert!(answer.text.contains("no such job"), "{}", answer.text);
    }
}
