//! Topics of a test on a real broker: written to, and read from their begin.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use common::config::Span;
use dispatcher::config::KafkaConfig;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;

use super::{eventually, soon, tenant};

/// Partitions of each topic, as the reference document has them.
pub(crate) const PARTITIONS: i32 = 6;

/// A way to a broker.
pub(crate) struct Topics {
    brokers: String,
    producer: FutureProducer,
}

/// A name that no other test has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{name}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl Topics {
    /// On the broker that the tests share.
    pub(crate) async fn shared() -> Self {
        let broker = tokio::task::spawn_blocking(|| rig::kafka::shared().unwrap());
        Self::on(broker.await.unwrap().address().to_string())
    }

    /// On these brokers.
    pub(crate) fn on(brokers: String) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("linger.ms", "1")
            .set("enable.idempotence", "true")
            .create()
            .unwrap();
        Self { brokers, producer }
    }

    /// A new topic.
    pub(crate) async fn create(&self, name: &str) -> String {
        let name = unique(name);
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()
            .unwrap();
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let made = soon("a topic", admin.create_topics([&topic], &options))
            .await
            .unwrap();
        made.into_iter().for_each(|made| drop(made.unwrap()));
        name
    }

    /// What a dispatcher is set by to read topics, with pauses that no test waits for.
    pub(crate) fn config(&self, topics: &[&str]) -> KafkaConfig {
        KafkaConfig {
            brokers: vec![self.brokers.clone()],
            group_id: unique("group"),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            default_tenant: Some(tenant()),
            retry: [20, 40, 60].map(|ms| Span(Duration::from_millis(ms))).to_vec(),
            session_timeout: Span(Duration::from_secs(6)),
            ..KafkaConfig::default()
        }
    }

    /// Writes an event.
    pub(crate) async fn put(&self, topic: &str, key: Option<&str>, event: &Value) -> (i32, i64) {
        self.send(topic, key, event.to_string().as_bytes(), &[]).await
    }

    /// Writes anything. Answers where it is.
    pub(crate) async fn send(
        &self,
        topic: &str,
        key: Option<&str>,
        payload: &[u8],
        headers: &[(&str, &str)],
    ) -> (i32, i64) {
        let headers = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(*value),
            })
        });
        let mut record = FutureRecord::to(topic).payload(payload).headers(headers);
        record.key = key;
        let sent = self.producer.send(record, Duration::from_secs(20)).await;
        let delivery = sent.map_err(|(error, _)| error).unwrap();
        (delivery.partition, delivery.offset)
    }

    /// Reads a topic until it has brought so many messages.
    pub(crate) async fn read(&self, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", unique("reader"))
            .set("auto.offset.reset", "earliest")
            .set("topic.metadata.refresh.interval.ms", "500")
            .set("allow.auto.create.topics", "true")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let mut all = Vec::new();
        let reading = async {
            while all.len() < count {
                // A topic that is not there yet is an error that passes.
                if let Ok(message) = consumer.recv().await {
                    all.push(message.detach());
                }
            }
        };
        soon(&format!("{count} messages of {topic}"), reading).await;
        all
    }

    /// Waits until a group has committed everything that a topic holds.
    pub(crate) async fn all_committed(&self, group: &str, topic: &str) {
        let (brokers, group, topic) = (self.brokers.clone(), group.to_owned(), topic.to_owned());
        let what = format!("all of {topic} is committed");
        eventually(&what, async || {
            let (brokers, group, topic) = (brokers.clone(), group.clone(), topic.clone());
            let left = tokio::task::spawn_blocking(move || left(&brokers, &group, &topic));
            (left.await.unwrap()? == 0).then_some(())
        })
        .await;
    }
}

/// How much of a topic a group has not committed; none: it cannot be said at the moment.
fn left(brokers: &str, group: &str, topic: &str) -> Option<i64> {
    let wait = Duration::from_secs(5);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .create()
        .ok()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, PARTITIONS - 1);
    let committed = consumer.committed_offsets(list, wait).ok()?;
    let mut left = 0;
    for element in committed.elements() {
        let (_, end) = consumer.fetch_watermarks(topic, element.partition(), wait).ok()?;
        let done = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        left += end - done;
    }
    Some(left)
}

/// A header of a message.
pub(crate) fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}
