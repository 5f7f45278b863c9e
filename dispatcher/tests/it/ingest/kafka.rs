//! Events from Kafka.

use std::collections::BTreeMap;

use common::config::Span;
use dispatcher::{config::DispatcherConfig, model::Outcome};
use rdkafka::Message;
use serde_json::{Value, json};

use crate::{
    api::{Api, Who},
    support::{
        World, eventually, quick,
        smtp::SmtpServer,
        topics::{Topics, header, unique},
    },
};

/// A dispatcher that reads these topics.
async fn reading(topics: &Topics, names: &[&str]) -> Api {
    Api::start(DispatcherConfig {
        kafka: topics.config(names),
        ..quick()
    })
    .await
}

/// Waits until so many notifications are stored.
async fn stored(api: &Api, count: u64) {
    eventually(&format!("{count} are stored"), async || {
        (api.stored().await >= count).then_some(())
    })
    .await;
    assert_eq!(api.stored().await, count);
}

/// A notification that is its own rule.
fn said(user: &str, title: &str) -> Value {
    json!({"event_type": "carillon.notification", "data": {"user_id": user, "title": title, "content": "C", "channels": ["in_app"]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_the_five_events_become_what_the_document_says() {
    let topics = Topics::shared().await;
    let topic = topics.create("five").await;
    let mut mails = SmtpServer::friendly().await;
    let config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..mails.configure(quick())
    };
    let api = Api::start(config).await;
    for event in [
        json!({"event_type": "document.indexed", "user_id": "u1", "tenant_id": "t1", "document_id": "d1",
            "document_name": "计划", "email": "reader@example.com"}),
        json!({"event_type": "task.completed", "user_id": "u1", "task_id": "k1", "task_name": "导出"}),
        json!({"event_type": "user.registered", "user_id": "u2", "email": "new@example.com", "user_name": "张三"}),
        json!({"event_type": "payment.success", "user_id": "u1", "email": "payer@example.com", "order_id": "o1", "amount": 12.5}),
        json!({"event_type": "conversation.message.sent", "user_id": "u1", "sender_name": "李四", "content": "你好"}),
        json!({"event_type": "nobody.asked", "user_id": "u1"}),
    ] {
        topics.put(&topic, Some("k"), &event).await;
    }
    let mut addresses = Vec::new();
    for _ in 0..3 {
        addresses.push(mails.mail().await.to);
    }
    addresses.sort();
    assert_eq!(
        addresses,
        ["new@example.com", "payer@example.com", "reader@example.com"]
    );
    stored(&api, 5).await;
    assert_eq!(api.titles(&Who::user("u1")).await, ["任务完成", "文档索引完成"]);
    topics.all_committed(&api.kafka_group, &topic).await;
}

/// Rules that one dispatcher is told of hold at the other, which reads the events: a tenant's own, and those of the settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_13_rules_that_are_changed_hold_at_every_dispatcher_without_a_restart() {
    let topics = Topics::shared().await;
    let topic = topics.create("changed").await;
    let world = World::new().await;
    let beside = world.beside().await;
    let here = Api::on(world, quick()).await;
    let config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    let there = Api::on(beside, config).await;
    let who = Who::service().scope("rules:write").scope("platform:admin");
    let rule = |title: &str| {
        json!({"event": "order.placed",
            "notification": {"user_id": "{{ owner }}", "title": title, "content": "C", "channels": ["in_app"]}})
    };
    // Each event is another one; what came before a rule held is of the rule before it, or of none.
    let told = async |title: &str| {
        eventually(&format!("`{title}` is told"), async || {
            let event = json!({"event_type": "order.placed", "tenant_id": "t1", "owner": "u1"});
            topics.put(&topic, Some("k"), &event).await;
            topics.all_committed(&there.kafka_group, &topic).await;
            let titles = here.titles(&Who::user("u1")).await;
            titles.iter().any(|told| told == title).then_some(())
        })
        .await;
    };
    let put = async |path: &str, body: Value| {
        let answer = here.json("PUT", &who, path, &body.to_string()).await;
        assert!(answer.status.is_success(), "{}: {}", answer.status, answer.text);
    };
    let mut platform = rule("of the platform");
    platform["name"] = json!("orders");
    put("/api/v1/settings/rules.list", json!({ "value": [platform] })).await;
    told("of the platform").await;
    put("/api/v1/rules/orders", rule("of the tenant")).await;
    told("of the tenant").await;
    put("/api/v1/rules/orders", rule("of the tenant, another")).await;
    told("of the tenant, another").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_cloud_events_are_read_in_both_modes() {
    let topics = Topics::shared().await;
    let topic = topics.create("ce").await;
    let api = reading(&topics, &[&topic]).await;
    let structured = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "task.completed", "tenantid": "t1",
        "data": {"user_id": "u1", "task_name": "a"}});
    topics
        .send(
            &topic,
            None,
            structured.to_string().as_bytes(),
            &[("content-type", "application/cloudevents+json; charset=utf-8")],
        )
        .await;
    let binary = [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", "2"),
        ("ce_source", "/s"),
        ("ce_type", "task.completed"),
    ];
    let body = json!({"user_id": "u1", "task_name": "b"}).to_string();
    topics.send(&topic, None, body.as_bytes(), &binary).await;
    // The same event once more, elsewhere in the topic.
    topics
        .send(&topic, Some("elsewhere"), body.as_bytes(), &binary)
        .await;
    stored(&api, 2).await;
    topics.all_committed(&api.kafka_group, &topic).await;
    assert_eq!(api.stored().await, 2, "an event is known by its source and id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_poisoned_event_is_a_dead_letter_with_its_reason_and_holds_up_nobody() {
    let topics = Topics::shared().await;
    let topic = topics.create("poison").await;
    let api = reading(&topics, &[&topic]).await;
    // One key, so one partition: nothing can be read of the first, nothing made of the second.
    let broken = topics
        .send(&topic, Some("a"), b"{not json", &[("trace", "t-1")])
        .await;
    let unknown = json!({"event_type": "carillon.notification", "data": {"user_id": "u1", "template": "there is none"}});
    let refused = topics.put(&topic, Some("a"), &unknown).await;
    topics.put(&topic, Some("a"), &said("u1", "behind it")).await;
    topics
        .put(
            &topic,
            Some("b"),
            &json!({"event_type": "user.registered", "user_id": "u1", "tenant_id": "no tenant"}),
        )
        .await;
    topics.put(&topic, Some("b"), &said("u1", "beside it")).await;
    stored(&api, 2).await;
    let titles = api.titles(&Who::user("u1")).await;
    assert!(titles.contains(&"behind it".to_owned()) && titles.contains(&"beside it".to_owned()));
    let dead = topics.read(&format!("{topic}.dlq"), 3).await;
    let by_code: BTreeMap<String, _> = dead
        .iter()
        .map(|message| (header(message, "dlq-code").unwrap(), message))
        .collect();
    let first = by_code["invalid_json"];
    assert_eq!(
        (first.payload(), first.key()),
        (Some(b"{not json".as_slice()), Some(b"a".as_slice()))
    );
    assert_eq!(
        header(first, "trace").as_deref(),
        Some("t-1"),
        "its own headers stay"
    );
    assert_eq!(header(first, "dlq-topic").as_deref(), Some(topic.as_str()));
    assert_eq!(header(first, "dlq-partition"), Some(broken.0.to_string()));
    assert_eq!(header(first, "dlq-offset"), Some(broken.1.to_string()));
    assert_eq!(
        header(first, "dlq-attempts").as_deref(),
        Some("1"),
        "no second try makes JSON of it"
    );
    let second = by_code["unknown_template"];
    assert_eq!(header(second, "dlq-offset"), Some(refused.1.to_string()));
    assert_eq!(
        header(second, "dlq-attempts").as_deref(),
        Some("4"),
        "tried again three times"
    );
    assert!(header(second, "dlq-reason").unwrap().contains("no such template"));
    assert!(by_code.contains_key("invalid_tenant"));
    topics.all_committed(&api.kafka_group, &topic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_what_is_mended_meanwhile_is_no_dead_letter() {
    let topics = Topics::shared().await;
    let topic = topics.create("mended").await;
    let mut config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    config.kafka.retry = vec![Span(std::time::Duration::from_millis(100)); 20];
    let api = Api::start(config).await;
    let event = json!({"event_type": "carillon.notification",
        "data": {"user_id": "u1", "template": "late", "channels": ["in_app"]}});
    topics.put(&topic, Some("a"), &event).await;
    topics.put(&topic, Some("a"), &said("u1", "second")).await;
    topics.put(&topic, Some("b"), &said("u1", "other key")).await;
    stored(&api, 1).await;
    let writer = Who::service().scope("templates:write");
    api.post(
        &writer,
        "/api/v1/templates",
        &json!({"name": "late", "title": "first", "content": "c"}),
    )
    .await
    .expect(201);
    stored(&api, 3).await;
    let titles = api.titles(&Who::user("u1")).await;
    let at = |title: &str| titles.iter().position(|found| found == title).unwrap();
    assert!(
        at("first") > at("second"),
        "of one key in their order, newest first: {titles:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_topic_has_events_of_its_tenants_alone() {
    let topics = Topics::shared().await;
    let topic = topics.create("tenants").await;
    let mut config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    config.kafka.tenants = BTreeMap::from([(topic.clone(), vec!["t1".to_owned()])]);
    config.kafka.dead_letter_topic = Some(unique("dead"));
    let dead = config.kafka.dead_letter_topic.clone().unwrap();
    let api = Api::start(config).await;
    let mut other = said("u1", "of another");
    other["tenant_id"] = json!("t2");
    topics.put(&topic, None, &other).await;
    topics.put(&topic, None, &said("u1", "of the topic's")).await;
    stored(&api, 1).await;
    let dead = topics.read(&dead, 1).await;
    assert_eq!(
        header(&dead[0], "dlq-code").as_deref(),
        Some("tenant_not_allowed")
    );
    assert!(api.titles(&Who::user("u1").tenant("t2")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_another_life_reads_again_and_stores_nothing_twice() {
    let topics = Topics::shared().await;
    let topic = topics.create("lives").await;
    let world = World::new().await;
    let mut config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    for number in 0..50 {
        topics
            .put(
                &topic,
                Some(&number.to_string()),
                &said("u1", &number.to_string()),
            )
            .await;
    }
    let api = Api::on(world, config.clone()).await;
    stored(&api, 50).await;
    topics.all_committed(&api.kafka_group, &topic).await;
    let world = api.stop().await;
    // The group of the second life has read nothing so far.
    config.kafka.group_id = unique("group");
    let group = config.kafka.group_id.clone();
    let api = Api::on(world, config).await;
    topics.put(&topic, None, &said("u1", "new")).await;
    topics.all_committed(&group, &topic).await;
    assert_eq!(api.stored().await, 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_full_queue_is_waited_for_and_loses_nothing() {
    let topics = Topics::shared().await;
    let topic = topics.create("full").await;
    let mut config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    (config.kafka.batch_max, config.kafka.buffer) = (4, 8);
    config.limits.queued_max_per_tenant = 10;
    let (mut outbox, api) = Api::with_outbox(config, 1).await;
    let mail = json!({"event_type": "carillon.notification",
        "data": {"recipient": "a@example.com", "title": "T", "content": "C", "channels": ["email"]}});
    for _ in 0..40 {
        topics.put(&topic, Some("one"), &mail).await;
    }
    let first = outbox.hold(1).await;
    eventually("the partition is paused", async || {
        (api.world.metrics.kafka_paused.get() == 1).then_some(())
    })
    .await;
    assert!(api.stored().await < 20, "no more than there is room for");
    for one in first {
        one.end(Outcome::Delivered);
    }
    for _ in 1..40 {
        outbox.deliver().await;
    }
    assert_eq!(api.stored().await, 40);
    topics.all_committed(&api.kafka_group, &topic).await;
    assert_eq!(api.world.metrics.kafka_paused.get(), 0);
    api.stop().await;
}
