//! Ways to Redis other than an open one: TLS, ACL users, a nearby replica to subscribe at.

use std::time::Duration;

use bytes::Bytes;
use common::{
    bus::attendance::conformance,
    bus::{BusError, BusEvent, BusLimits, BusMetrics, Publication, RedisBus},
    ids::{MessageId, Name, NodeId, TenantId},
    message::{FrameKind, Header},
    policy::Policies,
    receipts,
    redis::{RedisConfig, RedisKind},
    telemetry::Metrics,
    topic::TopicKey,
};
use rig::redis::{Options, Server, Tls};
use tokio::time::timeout;

use crate::support::{config, connect, until};

const LONG: Duration = Duration::from_secs(10);

/// The rights that docs/operations.md names.
const RIGHTS: &str = include_str!("../../../docs/redis.acl");

fn topic(name: &str) -> TopicKey {
    TopicKey::topic(&TenantId::new("t").unwrap(), &Name::new(name).unwrap())
}

fn publication(key: &TopicKey) -> Publication {
    Publication {
        key: key.clone(),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: Bytes::from_static(b"{}"),
        history: true,
        idempotency_key: Some("k".to_owned()),
    }
}

/// Everything that a bus asks of Redis.
async fn works(config: &RedisConfig) {
    let bus = connect(config, BusLimits::default(), Policies::default()).await;
    let (subscriptions, mut events) = bus.attach(10);
    let key = topic("a");
    subscriptions.subscribe(std::slice::from_ref(&key)).await.unwrap();
    bus.publish(publication(&key)).await.unwrap();
    let mut batch = Vec::new();
    while !batch.iter().any(|event| matches!(event, BusEvent::Message(_))) {
        timeout(LONG, events.next_batch(&mut batch, 10))
            .await
            .expect("it is heard");
    }
    let head = bus.heads(std::slice::from_ref(&key)).await[0].expect("the bus is there");
    assert_eq!(bus.history(&key, 0, 10).await.unwrap().messages.len(), 1);
    assert_eq!(bus.renew(&key, head).await.unwrap(), head);
    subscriptions.unsubscribe(&[key]).await;
}

/// The table of who is there.
async fn attends(config: &RedisConfig) {
    let bus = connect(config, BusLimits::default(), Policies::default()).await;
    conformance::suite(&bus.attendance()).await;
}

/// The stream of receipts, both ends.
async fn receives(config: &RedisConfig) {
    let metrics = Metrics::default();
    let sink = receipts::redis_sink(config, &metrics).unwrap();
    let mut stream = receipts::redis_stream(config, "d1", &metrics).unwrap();
    assert!(sink.send(receipts::conformance::receipt()).await);
    let batch = timeout(LONG, stream.next_batch(1))
        .await
        .expect("it comes")
        .unwrap();
    stream.done(batch).await;
}

/// A bus that does not become ready, and what it says to a publish.
async fn refused(config: &RedisConfig) -> BusError {
    let bus = RedisBus::for_test(config);
    let answer = timeout(LONG, bus.publish(publication(&topic("a")))).await;
    assert!(!bus.ready());
    answer.expect("it is answered").unwrap_err()
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_authorities_know() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = write("cert.pem", &made.cert.pem());
    let server = Server::start(&Options {
        tls: Some(Tls {
            certificate: certificate.clone(),
            key: write("key.pem", &made.signing_key.serialize_pem()),
            client_ca: None,
        }),
        ..Options::default()
    })
    .unwrap();
    let mut config = config(RedisKind::Servers, &[server.tls_url().unwrap()]);
    config.ca_file = Some(certificate);
    works(&config).await;
    config.ca_file = Some(write("other.pem", &other.cert.pem()));
    refused(&config).await;
    config.ca_file = Some(folder.path().join("nothing.pem"));
    let bus = RedisBus::connect(
        &config,
        BusLimits::default(),
        Policies::default(),
        NodeId::generate(),
        BusMetrics::default(),
    );
    assert!(bus.unwrap_err().to_string().starts_with("redis.ca_file: "));
}

#[tokio::test]
async fn an_acl_user_needs_the_rights_that_are_documented_and_no_others() {
    let rights = RIGHTS
        .lines()
        .find(|line| line.starts_with("user carillon "))
        .unwrap()
        .trim_start_matches("user ")
        .replace(">change-me", ">s3cret");
    let server = Server::start(&Options {
        password: Some("other".to_owned()),
        users: vec![rights],
        ..Options::default()
    })
    .unwrap();
    let address = server.address();
    let mut config = config(RedisKind::Servers, &[format!("redis://{address}")]);
    config.prefix = "carillon".to_owned();
    config.username = Some("carillon".to_owned());
    config.password = Some("s3cret".to_owned().into());
    works(&config).await;
    attends(&config).await;
    receives(&config).await;
    crate::board::works(&config).await;
    config.prefix = "elsewhere".to_owned();
    let bus = connect(&config, BusLimits::default(), Policies::default()).await;
    let (subscriptions, _events) = bus.attach(10);
    assert!(bus.publish(publication(&topic("a"))).await.is_err());
    assert!(subscriptions.subscribe(&[topic("a")]).await.is_err());
    config.prefix = "carillon".to_owned();
    config.password = Some("wrong".to_owned().into());
    let error = refused(&config).await.to_string();
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearby_replica_is_subscribed_at() {
    let primary = Server::start(&Options::default()).unwrap();
    let replica = Server::start(&Options {
        replica_of: Some(primary.address()),
        ..Options::default()
    })
    .unwrap();
    let mut config = config(RedisKind::Servers, &[primary.url()]);
    config.subscribe_url = Some(replica.url().parse().unwrap());
    let linked = || {
        let info = replica.command(&["INFO", "replication"]).unwrap();
        info.as_str().contains("master_link_status:up")
    };
    until("the replica follows", LONG, linked).await;
    works(&config).await;
    let bus = connect(&config, BusLimits::default(), Policies::default()).await;
    let (subscriptions, mut events) = bus.attach(100);
    subscriptions.subscribe(&[topic("b")]).await.unwrap();
    let channels = |server: &Server| {
        let channels = server.command(&["PUBSUB", "SHARDCHANNELS"]).unwrap();
        channels.as_list().len()
    };
    assert_eq!((channels(&primary), channels(&replica) > 0), (0, true));
    // The replica away: nothing is heard, which is said, and all is there when it is back.
    replica.kill().unwrap();
    until("it is not ready", LONG, || !bus.ready()).await;
    let published = bus.publish(publication(&topic("b"))).await.unwrap();
    assert_eq!(published.position.unwrap().offset, 1);
    replica.restart(rig::redis::Restart::Empty).unwrap();
    until("it is ready", LONG, || bus.ready()).await;
    let mut batch = Vec::new();
    while !batch.iter().any(|event| matches!(event, BusEvent::Unsure)) {
        timeout(LONG, events.next_batch(&mut batch, 10))
            .await
            .expect("it is told");
    }
    assert_eq!(bus.history(&topic("b"), 0, 10).await.unwrap().messages.len(), 1);
}
