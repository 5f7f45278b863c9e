//! Schedules over the API.

use serde_json::{Value, json};

use super::{Api, Who};

const PATH: &str = "/api/v1/schedules";

fn weekly() -> Value {
    json!({
        "name": "weekly report",
        "cron": "0 8 * * mon",
        "time_zone": "Asia/Shanghai",
        "notification": { "to": { "user": "u1" }, "title": "Report", "content": "It is there" }
    })
}

async fn put(api: &Api, who: &Who, path: &str, body: &Value) -> super::Answer {
    api.json("PUT", who, path, &body.to_string()).await
}

#[tokio::test]
async fn they_are_made_read_replaced_and_deleted() {
    let api = Api::new().await;
    let who = Who::service();
    let made = api.post(&who, PATH, &weekly()).await.expect(201);
    assert_eq!(made["status"], "active");
    assert_eq!(
        (&made["cron"], &made["time_zone"]),
        (&json!("0 8 * * mon"), &json!("Asia/Shanghai"))
    );
    assert_eq!((&made["missed"], &made["runs"]), (&json!("once"), &json!(0)));
    assert_eq!(made["notification"], weekly()["notification"]);
    // Eight in Shanghai is midnight in UTC.
    let next = made["next_at"].as_str().unwrap();
    assert!(next.ends_with("T00:00:00.000Z"), "{next}");
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    assert_eq!(api.get(&who, &path).await.expect(200), made);
    assert_eq!(api.get(&who, PATH).await.expect(200)["schedules"], json!([made]));

    let every = json!({ "every": "90m", "notification": { "to": { "user": "u1" }, "title": "T", "content": "C" }, "jitter": "10s", "missed": "all" });
    let replaced = put(&api, &who, &path, &every).await.expect(200);
    assert_eq!(
        (&replaced["every"], &replaced["jitter"]),
        (&json!("1h 30m"), &json!("10s"))
    );
    assert_eq!(
        (&replaced["cron"], &replaced["name"]),
        (&json!(null), &json!(null))
    );
    let refused = put(&api, &who, &path, &json!({ "every": 60 })).await;
    assert_eq!(refused.problem().2.as_deref(), Some("notification"));
    assert_eq!(api.get(&who, &path).await.expect(200), replaced);

    assert_eq!(api.delete(&who, &path).await.status, 204);
    assert_eq!(api.get(&who, &path).await.status, 404);
    assert_eq!(api.delete(&who, &path).await.status, 404);
    assert_eq!(api.stored().await, 0, "nothing was sent");
}

#[tokio::test]
async fn the_notification_is_checked_when_it_is_made() {
    let api = Api::new().await;
    let who = Who::service();
    let with = |notification: Value| json!({ "every": 60, "notification": notification });
    for (notification, code, field) in [
        (
            json!({ "title": "T", "content": "C" }),
            "no_target",
            "notification.to",
        ),
        (
            json!({ "to": { "user": "u" }, "content": "C" }),
            "missing_field",
            "notification.title",
        ),
        (
            json!({ "to": { "user": "u" }, "title": "T", "content": "C", "channels": ["pigeon"] }),
            "unknown_channel",
            "notification.channels[0]",
        ),
        (
            json!({ "to": { "user": "u" }, "template": "none" }),
            "unknown_template",
            "notification.template",
        ),
        (
            json!({ "to": { "user": "u" }, "template": "inventory_low", "variables": {} }),
            "template_variable_missing",
            "notification.variables",
        ),
    ] {
        let refused = api.post(&who, PATH, &with(notification.clone())).await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (422, code), "{notification}");
        assert!(
            refused.2.as_deref().unwrap().starts_with(field),
            "{notification}: {refused:?}"
        );
    }
    // Who may not tell everyone, may not do so every day.
    let everyone = with(json!({ "to": { "everyone": true }, "title": "T", "content": "C" }));
    assert_eq!(api.post(&who, PATH, &everyone).await.problem().0, 403);
    let theirs = with(json!({ "tenant_id": "t2", "to": { "user": "u" }, "title": "T", "content": "C" }));
    assert_eq!(api.post(&who, PATH, &theirs).await.problem().1, "tenant_mismatch");
    assert_eq!(
        api.post(&Who::user("u"), PATH, &weekly()).await.problem().1,
        "scope_missing"
    );
    let bad = json!({ "cron": "0 25 * * *", "notification": weekly()["notification"] });
    let refused = api.post(&who, PATH, &bad).await;
    assert_eq!(
        refused.problem(),
        (422, "invalid_cron".to_owned(), Some("cron".to_owned()))
    );
    assert!(
        refused.text.contains("`25` is not one of 0 to 23"),
        "{}",
        refused.text
    );
    let never = json!({ "cron": "0 0 31 4 *", "notification": weekly()["notification"] });
    assert_eq!(api.post(&who, PATH, &never).await.problem().1, "never_fires");
    assert_eq!(api.get(&who, PATH).await.expect(200)["schedules"], json!([]));
}

#[tokio::test]
async fn they_are_their_authors_and_an_administrators() {
    let api = Api::new().await;
    let who = Who::service();
    let made = api.post(&who, PATH, &weekly()).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let colleague = Who::user("colleague").scope("notifications:write");
    let stranger = who.clone().tenant("t2").scope("notifications:admin");
    for other in [&colleague, &stranger] {
        assert_eq!(api.get(other, &path).await.status, 404);
        assert_eq!(put(&api, other, &path, &weekly()).await.status, 404);
        assert_eq!(api.delete(other, &path).await.status, 404);
        for verb in ["pause", "resume", "run"] {
            assert_eq!(
                api.post(other, &format!("{path}/{verb}"), &json!({}))
                    .await
                    .status,
                404
            );
        }
        assert_eq!(api.get(other, &format!("{path}/next")).await.status, 404);
        assert_eq!(api.get(other, PATH).await.expect(200)["schedules"], json!([]));
    }
    // A name is the tenant's.
    let taken = api.post(&colleague, PATH, &weekly()).await;
    assert_eq!(
        taken.problem(),
        (409, "name_taken".to_owned(), Some("name".to_owned()))
    );
    api.post(&stranger, PATH, &weekly()).await.expect(201);
    let admin = colleague.scope("notifications:admin");
    assert_eq!(
        api.get(&admin, PATH).await.expect(200)["schedules"],
        json!([made])
    );
    let replaced = put(&api, &admin, &path, &weekly()).await.expect(200);
    assert_eq!(replaced["author"], "colleague", "who says it, sends it");
    for id in ["nonsense", "00000000-0000-0000-0000-000000000000"] {
        assert_eq!(api.get(&admin, &format!("{PATH}/{id}")).await.status, 404);
    }
}

#[tokio::test]
async fn they_are_listed_in_pages_by_status() {
    let api = Api::new().await;
    let who = Who::service();
    let mut ids = Vec::new();
    for number in 0..5 {
        let mut body = weekly();
        body["name"] = json!(number.to_string());
        ids.push(api.post(&who, PATH, &body).await.expect(201)["id"].clone());
    }
    let mut seen = Vec::new();
    let mut path = format!("{PATH}?limit=2");
    loop {
        let page = api.get(&who, &path).await.expect(200);
        seen.extend(
            page["schedules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["id"].clone()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{PATH}?limit=2&after={next}");
    }
    assert_eq!(seen, ids);
    let paused = format!("{PATH}/{}/pause", ids[3].as_str().unwrap());
    api.post(&who, &paused, &json!({})).await.expect(200);
    let found = api.get(&who, &format!("{PATH}?status=paused")).await.expect(200);
    assert_eq!(found["schedules"][0]["id"], ids[3]);
    assert_eq!(found["schedules"].as_array().unwrap().len(), 1);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("status=late", "status"),
        ("after=x", "after"),
        ("page=2", "page"),
    ] {
        let refused = api.get(&who, &format!("{PATH}?{query}")).await.problem();
        assert_eq!((refused.0, refused.2.as_deref()), (422, Some(field)), "{query}");
    }
}

#[tokio::test]
async fn the_next_times_are_shown_in_their_zone() {
    let api = Api::new().await;
    let who = Who::service();
    let mut body = weekly();
    body["cron"] = json!("30 2 * * *");
    body["time_zone"] = json!("Europe/Berlin");
    body["start_at"] = json!("2029-03-24T00:00:00Z");
    body["max_runs"] = json!(3);
    let made = api.post(&who, PATH, &body).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let next = api.get(&who, &format!("{path}/next?count=5")).await.expect(200);
    let local: Vec<_> = next["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["local"].clone())
        .collect();
    // The clock is put forward on 25 March 2029.
    assert_eq!(
        local,
        [
            "2029-03-24T02:30:00+01:00",
            "2029-03-25T03:00:00+02:00",
            "2029-03-26T02:30:00+02:00"
        ]
    );
    assert_eq!(next["next"][1]["at"], "2029-03-25T01:00:00.000Z");
    assert_eq!(
        api.get(&who, &format!("{path}/next?count=101"))
            .await
            .problem()
            .2
            .as_deref(),
        Some("count")
    );
}

#[tokio::test]
async fn a_paused_one_waits_and_an_ended_one_has_ended() {
    let api = Api::new().await;
    let who = Who::service();
    let made = api.post(&who, PATH, &weekly()).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    for _ in 0..2 {
        let paused = api
            .post(&who, &format!("{path}/pause"), &json!({}))
            .await
            .expect(200);
        assert_eq!(
            (&paused["status"], &paused["next_at"]),
            (&json!("paused"), &json!(null))
        );
    }
    let shown = api.get(&who, &format!("{path}/next?count=1")).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["next"][0]["at"]),
        (&json!("paused"), &made["next_at"])
    );
    let resumed = api
        .post(&who, &format!("{path}/resume"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&resumed["status"], &resumed["next_at"]),
        (&json!("active"), &made["next_at"])
    );

    let once = json!({ "every": 1, "max_runs": 1, "notification": weekly()["notification"] });
    let made = api.post(&who, PATH, &once).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let ended = crate::support::eventually("its last run", async || {
        let now = api.get(&who, &path).await.expect(200);
        (now["status"] == "ended").then_some(now)
    })
    .await;
    assert_eq!(
        (&ended["runs"], &ended["failed_runs"], &ended["last_error"]),
        (&json!(1), &json!(0), &json!(null))
    );
    assert_eq!(ended["last_run_at"], made["next_at"]);
    for verb in ["pause", "resume", "run"] {
        let refused = api
            .post(&who, &format!("{path}/{verb}"), &json!({}))
            .await
            .problem();
        assert_eq!((refused.0, refused.1.as_str()), (409, "ended"));
    }
    assert_eq!(
        api.get(&who, &format!("{path}/next")).await.expect(200)["next"],
        json!([])
    );
}

#[tokio::test]
async fn run_now_sends_once_and_leaves_the_times() {
    let api = Api::new().await;
    let who = Who::service();
    let made = api.post(&who, PATH, &weekly()).await.expect(201);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let ran = api
        .post(&who, &format!("{path}/run"), &json!({}))
        .await
        .expect(201);
    assert_eq!((&ran["title"], &ran["user_id"]), (&json!("Report"), &json!("u1")));
    api.post(&who, &format!("{path}/pause"), &json!({}))
        .await
        .expect(200);
    api.post(&who, &format!("{path}/run"), &json!({}))
        .await
        .expect(201);
    assert_eq!(api.titles(&Who::user("u1")).await, ["Report", "Report"]);
    let now = api.get(&who, &path).await.expect(200);
    assert_eq!((&now["runs"], &now["status"]), (&json!(0), &json!("paused")));
    // Its author sees what became of it.
    let status = api.status(&who, ran["id"].as_str().unwrap()).await;
    assert_eq!(status["deliveries"][0]["state"], "delivered", "{status}");
}

#[tokio::test]
async fn a_tenant_has_so_many() {
    let mut config = crate::support::quick();
    config.schedules.per_tenant = 2;
    let api = Api::start(config).await;
    let nameless = json!({ "cron": "@daily", "notification": weekly()["notification"] });
    for _ in 0..2 {
        api.post(&Who::service(), PATH, &nameless).await.expect(201);
    }
    let refused = api.post(&Who::service(), PATH, &nameless).await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (409, "too_many_schedules"));
    api.post(&Who::service().tenant("t2"), PATH, &nameless)
        .await
        .expect(201);
}
