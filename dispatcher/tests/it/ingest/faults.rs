//! What brokers answer when they are not well: injected into librdkafka's mock of them, and a real one killed.

use std::time::Duration;

use common::config::Span;
use dispatcher::config::DispatcherConfig;
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::{Value, json};

use crate::{
    api::{Api, Who},
    support::{
        eventually, quick,
        topics::{PARTITIONS, Topics, header, unique},
    },
};

fn said(title: &str) -> Value {
    json!({"event_type": "carillon.notification", "data": {"user_id": "u1", "title": title, "content": "C", "channels": ["in_app"]}})
}

/// Commits that fail, fetches that fail, a coordinator that moves: all is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_errors_of_brokers_lose_and_double_nothing() {
    let cluster = MockCluster::new(3).unwrap();
    let topic = unique("mock");
    cluster.create_topic(&topic, PARTITIONS, 3).unwrap();
    let topics = Topics::on(cluster.bootstrap_servers());
    let mut config = DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    };
    // What is asked of these brokers last takes some of their errors, too.
    config.queue.stop_within = Span(Duration::from_secs(15));
    let api = Api::start(config).await;
    let commit = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &commit);
    let fetch = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
    cluster.request_errors(RDKafkaApiKey::Fetch, &fetch);
    let heartbeat = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ];
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &heartbeat);
    for number in 0..50 {
        topics
            .put(&topic, Some(&number.to_string()), &said(&number.to_string()))
            .await;
    }
    eventually("the group has begun", async || {
        (api.stored().await > 0).then_some(())
    })
    .await;
    // A third of the partitions has its leader there.
    cluster.broker_down(2).unwrap();
    eventually("the others go on", async || {
        (api.stored().await > 10).then_some(())
    })
    .await;
    cluster.broker_up(2).unwrap();
    for number in 50..100 {
        topics
            .put(&topic, Some(&number.to_string()), &said(&number.to_string()))
            .await;
    }
    eventually("all are stored", async || {
        (api.stored().await >= 100).then_some(())
    })
    .await;
    let mut titles = api.titles(&Who::user("u1")).await;
    titles.sort_by_key(|title| title.parse::<u32>().unwrap());
    titles.dedup();
    assert_eq!((titles.len(), api.stored().await), (100, 100));
    api.stop().await;
}

/// Dead letters that the brokers do not take: the offset stays where it is until they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_dead_letter_is_acknowledged_before_its_offset_moves() {
    let cluster = MockCluster::new(1).unwrap();
    let topic = unique("mock");
    let dead = format!("{topic}.dlq");
    cluster.create_topic(&topic, PARTITIONS, 1).unwrap();
    cluster.create_topic(&dead, PARTITIONS, 1).unwrap();
    let topics = Topics::on(cluster.bootstrap_servers());
    topics.send(&topic, Some("a"), b"no event", &[]).await;
    topics.put(&topic, Some("a"), &said("behind it")).await;
    // Not one that librdkafka tries again by itself.
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    let api = Api::start(DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    })
    .await;
    let read = topics.read(&dead, 1).await;
    assert_eq!(header(&read[0], "dlq-code").as_deref(), Some("invalid_json"));
    eventually("what is behind it is stored", async || {
        (api.stored().await == 1).then_some(())
    })
    .await;
    topics.all_committed(&api.kafka_group, &topic).await;
    api.stop().await;
}

/// A real broker dies and comes back; what was written before and after is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_broker_that_dies_is_waited_for() {
    let broker = tokio::task::spawn_blocking(|| rig::kafka::Broker::start().unwrap())
        .await
        .unwrap();
    let topics = Topics::on(broker.address().to_string());
    let topic = topics.create("dies").await;
    let api = Api::start(DispatcherConfig {
        kafka: topics.config(&[&topic]),
        ..quick()
    })
    .await;
    for number in 0..20 {
        topics
            .put(&topic, Some(&number.to_string()), &said(&number.to_string()))
            .await;
    }
    eventually("the first are stored", async || {
        (api.stored().await == 20).then_some(())
    })
    .await;
    let broker = tokio::task::spawn_blocking(move || {
        broker.kill().unwrap();
        broker.start_again().unwrap();
        broker
    })
    .await
    .unwrap();
    for number in 20..40 {
        topics
            .put(&topic, Some(&number.to_string()), &said(&number.to_string()))
            .await;
    }
    let all = async || (api.stored().await >= 40).then_some(());
    common::patience::eventually("all are stored", Duration::from_secs(60), all).await;
    assert_eq!(api.stored().await, 40);
    api.stop().await;
    drop(broker);
}
